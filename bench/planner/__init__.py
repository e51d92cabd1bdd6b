"""The planner beside its rivals, on generated, published and conformance clusters (``make bench-planner``)."""
