"""The dashboards and the page of metrics, made from the table of metrics."""
