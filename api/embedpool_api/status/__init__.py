"""The page for people without Grafana: what it shows, who may see it, and its files."""
