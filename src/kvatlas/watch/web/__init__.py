"""The browser's view of live servers and finished recordings: a page, a stream, controls, metrics.

Owns: HTTP. Leaves to others: the figures (`kvatlas.watch.board`), what Prometheus reads
(`kvatlas.watch.prometheus`). Needs the extra `live`.
"""
