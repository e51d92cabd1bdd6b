"""A relay under load beside Debian's Prometheus: what the dashboards ask, answered (``make monitoring``)."""
