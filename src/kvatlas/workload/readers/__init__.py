"""One module per trace format, each exposing a `Reader`; `kvatlas.workload.formats` lists them.

`text`, `jsonl`, `csv` and `columns` hold what formats share: streaming, decoding with line
numbers, and the growing columns. Readers know nothing of each other.
"""
