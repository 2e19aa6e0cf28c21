"""The public traces that `fetch` knows: addresses, checksums, licences.

Owns the registry `TRACES` alone. Every address names a fixed commit or release, and every file has
a SHA-256: of the bytes in a clone of the repository, of the repository's own Git LFS pointer, or as
several independent projects pin it. A trace whose checksum is not known is not listed.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvatlas.registry import named
from kvatlas.workload.public_sessions import SESSIONS_SOURCE, session_files

__all__ = ["TRACES", "PublicTrace", "RemoteFile", "public_trace"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file to download; `size_bytes` is None where the source does not tell."""

    url: str
    sha256: str
    size_bytes: int | None

    @property
    def name(self) -> str:
        """The file's name, the last part of its address."""
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True, slots=True)
class PublicTrace:
    """A trace that anyone may download; `format` is its reader, `source` the page to cite."""

    name: str
    what: str
    format: str
    licence: str
    source: str
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int | None:
        """Bytes of all files, None where one is unknown."""
        sizes = [file.size_bytes for file in self.files]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None


_MOONCAKE = "https://github.com/kvcache-ai/Mooncake"
_MOONCAKE_RAW = (
    "https://raw.githubusercontent.com/kvcache-ai/Mooncake/"
    "3b5a594133958449a1feaf1c9e0fc1b553e34a28/FAST25-release/"
)
_AZURE = "https://github.com/Azure/AzurePublicDataset"
_AZURE_RAW = (
    "https://raw.githubusercontent.com/Azure/AzurePublicDataset/"
    "b469a113cedca53ddc3bdea71a143dc4b7d8700c/data/"
)
_AZURE_2024 = _AZURE + "/releases/download/dataset-llm-2024/"
_BURSTGPT = "https://github.com/HPMLL/BurstGPT"
_BURSTGPT_V2 = _BURSTGPT + "/releases/download/v2.0/"
_BAILIAN = "https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon"
# The files are Git LFS objects: the raw address would give their 130-byte pointers.
_BAILIAN_MEDIA = (
    "https://media.githubusercontent.com/media/alibaba-edu/qwen-bailian-usagetraces-anon/"
    "5f7439c51ec248a0c585f7d90a41a6f57773b912/"
)


def _mooncake(name: str, what: str, path: str, sha256: str, size_bytes: int | None) -> PublicTrace:
    file = RemoteFile(_MOONCAKE_RAW + path, sha256, size_bytes)
    return PublicTrace(f"mooncake-{name}", what, "mooncake", "Apache-2.0", _MOONCAKE, (file,))


def _azure(year: int, name: str, what: str, url: str, sha256: str, size_bytes: int) -> PublicTrace:
    file = RemoteFile(url, sha256, size_bytes)
    return PublicTrace(f"azure-{year}-{name}", what, f"azure-{year}", "CC-BY-4.0", _AZURE, (file,))


def _burstgpt(name: str, what: str, path: str, sha256: str, size_bytes: int) -> PublicTrace:
    file = RemoteFile(_BURSTGPT_V2 + path, sha256, size_bytes)
    return PublicTrace(f"burstgpt-{name}", what, "burstgpt", "CC-BY-4.0", _BURSTGPT, (file,))


def _bailian(name: str, what: str, path: str, sha256: str, size_bytes: int) -> PublicTrace:
    file = RemoteFile(_BAILIAN_MEDIA + path, sha256, size_bytes)
    return PublicTrace(f"bailian-{name}", what, "bailian", "Apache-2.0", _BAILIAN, (file,))


TRACES: dict[str, PublicTrace] = {
    trace.name: trace
    for trace in (
        _mooncake(
            "conversation",
            "12,031 requests of a chat service over an hour, with prefix hashes",
            "traces/conversation_trace.jsonl",
            "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
            3029533,
        ),
        _mooncake(
            "toolagent",
            "23,608 requests of tools and agents over an hour, with prefix hashes",
            "traces/toolagent_trace.jsonl",
            "48a2db1a13d3bc05e6330140c64f604ba366df20d3c9e128b5c35a01c1fa5f71",
            None,
        ),
        _mooncake(
            "synthetic",
            "3,993 requests made from public data sets, Poisson arrivals, with prefix hashes",
            "traces/synthetic_trace.jsonl",
            "bd070915a98fc0ed264d7cfef2ce746002eb3076a695ec31ba2674c0111ec131",
            1136313,
        ),
        _mooncake(
            "arxiv",
            "23,608 requests over an hour, the trace of the first report",
            "arxiv-trace/mooncake_trace.jsonl",
            "b434f1816a707f4bac697235588184ebc374c9907cb981bb65fb0643471fe711",
            None,
        ),
        _azure(
            2023,
            "conversation",
            "19,366 chat requests of an hour, lengths only",
            _AZURE_RAW + "AzureLLMInferenceTrace_conv.csv",
            "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
            719188,
        ),
        _azure(
            2023,
            "code",
            "8,819 code requests of an hour, lengths only",
            _AZURE_RAW + "AzureLLMInferenceTrace_code.csv",
            "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
            320117,
        ),
        _azure(
            2024,
            "conversation",
            "27,303,999 chat requests of a week, lengths only",
            _AZURE_2024 + "AzureLLMInferenceTrace_conv_1week.csv",
            "a0cc9b969a9bbf0fd811802cbf4323edd3a209ace791e3799ad4f9207f213941",
            1135195393,
        ),
        _azure(
            2024,
            "code",
            "16,803,695 code requests of a week, lengths only",
            _AZURE_2024 + "AzureLLMInferenceTrace_code_1week.csv",
            "71de5c55cbc35f8f1ed0b6b7806b4cd1e9764b0058469725a6aac98023a1448f",
            691989454,
        ),
        _burstgpt(
            "1",
            "1.43 M requests of a campus over two months, lengths only",
            "BurstGPT_1.csv",
            "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
            52283111,
        ),
        _burstgpt(
            "2",
            "3.86 M requests of the next two months, lengths only",
            "BurstGPT_2.csv",
            "44bf5942b03fca42c01a226a545ad3a750ec62688faecd67b6831c56a8928bf7",
            144819209,
        ),
        _burstgpt(
            "3",
            "5.34 M requests of 110 more days, with sessions and durations, lengths only",
            "BurstGPT_3.csv",
            "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f",
            231682327,
        ),
        _bailian(
            "a",
            "43,058 chat requests of consumers over two hours, with prefix hashes and turns",
            "qwen_traceA_blksz_16.jsonl",
            "07cedc9ed8aff301994ac68ed4aede8123b7603673575eeba9dd677de663db17",
            56354493,
        ),
        _bailian(
            "b",
            "172,800 API requests of businesses over two hours, with prefix hashes",
            "qwen_traceB_blksz_16.jsonl",
            "68e3f98e2d601d60d0abf4b89bc8a3654372abab7b1cde6373a13d0054379d59",
            96209982,
        ),
        _bailian(
            "coder",
            "code requests, with prefix hashes and turns",
            "qwen_coder_blksz_16.jsonl",
            "3d74974cebb7bccb69b1ca6ea210a44d9a3033443c0271ed015327284dea1aff",
            132054902,
        ),
        _bailian(
            "thinking",
            "requests to a reasoning model, with prefix hashes and turns",
            "qwen_thinking_blksz_16.jsonl",
            "41ac36d9d1b54d084eeb6b05e9d142ba9d02f8bf79cfc9fff418d8ab7cdee906",
            27901454,
        ),
        PublicTrace(
            "claude-code-sample",
            "39 of 739 recorded coding-agent sessions, with prefix hashes and subagents",
            "claude-code",
            "Apache-2.0",
            SESSIONS_SOURCE,
            tuple(RemoteFile(*file) for file in session_files()),
        ),
    )
}


def public_trace(name: str) -> PublicTrace:
    """Return the trace called `name`. Raises: InputError listing the names."""
    return named(TRACES, name, "public trace")
