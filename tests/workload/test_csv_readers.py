"""Length-only CSV and plain JSONL: Azure, BurstGPT, and whatever names its columns clearly."""

from __future__ import annotations

from pathlib import Path

import pytest
from workload_builders import public_trace, write_lines

from kvatlas.errors import InputError
from kvatlas.workload import detect, load

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
AZURE_2023 = [AZURE, "2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109"]
AZURE_2024 = [
    AZURE,
    "2024-05-10 00:00:00.009930+00:00,2162,5",
    "2024-05-10 00:00:01+00:00,2399,6",
    "2024-05-10 02:00:01.5+02:00,76,15",
]
BURST = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
BURST_ROWS = [
    "5,ChatGPT,472,18,490,Conversation log",
    "45,ChatGPT,1087,0,1087,Conversation log",
    "110.5,GPT-4,417,505,922,API log",
]


def test_azure_2023(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(AZURE_2023))  # the published file has no newline at its end
    w = load(path)
    assert detect(path).name == "azure-2023"
    assert w.arrival_s.tolist() == [0.0, 4.314579]
    assert w.prompt_tokens.tolist() == [374, 396]
    assert w.output_tokens.tolist() == [44, 109]
    assert not w.prefix_known
    assert w.ids.size == w.num_ids == 0
    assert w.notes == ("prefix reuse is unknown in this format and is replayed as none",)


def test_azure_2024_fractions_of_any_length_and_zones(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.csv", AZURE_2024)
    assert detect(path).name == "azure-2024"
    assert load(path).arrival_s.tolist() == pytest.approx([0.0, 0.99007, 1.49007], abs=1e-12)


def test_burstgpt(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "b.csv", BURST + BURST_ROWS)
    w = load(path)
    assert detect(path).name == "burstgpt"
    assert w.arrival_s.tolist() == [0.0, 40.0, 105.5]
    assert w.output_tokens.tolist() == [18, 1, 505]
    assert "1 requests had no output tokens" in w.notes[1]
    assert load(path, drop_empty=True).output_tokens.tolist() == [18, 505]


def test_burstgpt_sessions(tmp_path: Path) -> None:
    rows = [
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,"
        "Total tokens,Log Type",
        "1,a,2.5,ChatGPT,10,5,15,Conversation log",
        "2,,1,GPT-4,20,5,25,API log",
        "3,b,1,GPT-4,0,5,5,Conversation log",
        "4,b,1,GPT-4,20,5,25,Conversation log",
        "5,a,1,GPT-4,30,5,35,Conversation log",
        "6,a,1,GPT-4,30,5,35,Conversation log",
    ]
    path = write_lines(tmp_path / "b.csv", rows)
    with pytest.raises(InputError, match=r"b.csv:4: Request tokens: a request needs a prompt"):
        load(path)
    w = load(path, drop_empty=True)
    assert w.session.tolist() == [0, -1, 1, 0, 0]
    assert w.parent.tolist() == [-1, -1, -1, 0, 3]


@pytest.mark.parametrize(
    ("header", "rows", "seconds"),
    [
        ("arrival,input,output", ["0,5,6", "1.5,7,8"], [0, 1.5]),
        ("arrived_at,num_prefill_tokens,num_decode_tokens", ["2,5,6", "3,7,8"], [0, 1]),
        ("arrival_ms,prompt_tokens,completion_tokens", ["100,5,6", "250,7,8"], [0, 0.15]),
        ("Arrival Time (ns),Input Tokens,Output Tokens", ["1,5,6", "1000000001,7,8"], [0, 1]),
        ("id,output_len,input_len,timestamp", ["x,6,5,1", "y,8,7,2"], [0, 1]),
        ("time,input,output", ["2024-01-01T00:00:00Z,5,6", "2024-01-01 00:00:02,7,8"], [0, 2]),
        ('"time","input","output","text"', ['0,5,6,"a, b"', '1,"7",8,""'], [0, 1]),
        ("t,in,out", ["0,5.0,6", "1,7,8"], [0, 1]),
    ],
)
def test_plain_csv(tmp_path: Path, header: str, rows: list[str], seconds: list[float]) -> None:
    path = write_lines(tmp_path / "p.csv", [header, *rows])
    w = load(path)
    assert detect(path).name == "plain-csv"
    assert w.arrival_s.tolist() == pytest.approx(seconds)
    assert w.prompt_tokens.tolist() == [5, 7]
    assert w.output_tokens.tolist() == [6, 8]


def test_plain_csv_time_unit_is_forced(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.csv", ["timestamp,input,output", "0,5,6", "1500,7,8"])
    assert load(path, time_unit="ms").arrival_s.tolist() == [0, 1.5]
    with pytest.raises(InputError, match=r"unknown time unit.*s, ms, us, ns"):
        load(path, time_unit="h")


@pytest.mark.parametrize(
    ("row", "second", "seconds"),
    [
        ('{"arrival": %s, "input": 5, "output": 6}', 1.5, 1.5),
        ('{"prompt_tokens": 5, "completion_tokens": 6, "timestamp_ms": %s, "x": [1]}', 250, 0.25),
        ('{"t": %s, "isl": 5, "osl": 6}', 3, 3),
    ],
)
def test_plain_jsonl(tmp_path: Path, row: str, second: float, seconds: float) -> None:
    path = write_lines(tmp_path / "p.jsonl", [row % 0, row % second])
    w = load(path)
    assert detect(path).name == "plain-jsonl"
    assert w.arrival_s.tolist() == [0, seconds]
    assert w.prompt_tokens.tolist() == [5, 5]
    assert w.output_tokens.tolist() == [6, 6]
    assert not w.prefix_known


def test_sorted_csv(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "p.csv", ["t,in,out", "5,1,1", "3,2,2", "4,3,3"])
    with pytest.raises(InputError, match=r"p.csv:3: t: arrives before"):
        load(path)
    w = load(path, sort=True)
    assert w.prompt_tokens.tolist() == [2, 3, 1]
    assert w.arrival_s.tolist() == [0, 1, 2]


def test_many_pieces_keep_line_numbers(tmp_path: Path) -> None:
    rows = [f"{k},10,20" for k in range(50_000)]
    rows[44_444] = "44444,ten,20"
    path = write_lines(tmp_path / "p.csv", ["t,in,out", *rows])
    with pytest.raises(InputError, match=r"p.csv:44446: in: not a whole number.*got ten"):
        load(path)
    assert load(path, limit=44_444).num_requests == 44_444


def test_the_azure_trace() -> None:
    w = load(public_trace("azure_llm_2023_conversation.csv"))
    assert w.num_requests == 19_366
    assert w.total_prompt_tokens == 22_361_870
    assert w.arrival_s[-1] == pytest.approx(3501.721937, abs=1e-9)
