"""Records: no field may hide behind something that NumPy's records have themselves."""

from __future__ import annotations

import pytest

from kvatlas.records import one_record, record_dtype


def test_a_field_that_numpy_would_hide_is_refused() -> None:
    # GIVEN np.record.size, which is always 1 WHEN a field is called so THEN it is refused
    with pytest.raises(ValueError, match="size"):
        record_dtype(row="i8", size="i8")


def test_fields_are_read_and_written() -> None:
    record = one_record(record_dtype(row="i8", share="f8"), row=7)
    record.share = 0.5
    assert (record.row, record.share) == (7, 0.5)
