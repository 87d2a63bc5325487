"""`python -m embedpool_grafana`: write the dashboards and docs/metrics.md."""

from embedpool_grafana.files import texts

for path, text in texts().items():
    path.write_text(text, "utf-8")
