"""The bytes behind the blocks: tensors, and arenas of bytes of any size.

Owns: memory and what moves in it. Leaves to others: which block is whose (`kvatlas.engine`).
"""
