"""`retrieval`: questions about long shared documents (RAG), the documents of Zipf popularity.

A prompt is one preamble that all requests share, one or more documents, and a short question.
Requests are independent and arrive as a Poisson process; answers are not part of later prompts.

Statistics (checked in tests/workload/test_generators.py):
* documents: lengths lognormal with mean `document_tokens`, request picks Zipf with
  `document_exponent`. Several documents per request are drawn one by one, so a prefix of the same
  documents in the same order is shared, another order is not (as in a real prefix cache).
* questions and answers: lognormal with the stated means.

With the defaults about 84% of the prompt tokens of 2,000 requests were seen before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kvatlas.workload.generators.draft import (
    Draft,
    lognormal_tokens,
    poisson_arrivals,
    zipf_choice,
)
from kvatlas.workload.generators.knobs import knob

__all__ = ["RetrievalKnobs", "retrieval"]

_LONGEST_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievalKnobs:
    """Knobs of `retrieval`."""

    num_requests: int = knob(2000, "requests", "questions", at_least=1, at_most=50_000_000)
    requests_per_s: float = knob(4.0, "1/s", "rate of the questions", above=0)
    num_documents: int = knob(400, "documents", "library size", at_least=1, at_most=10_000_000)
    document_exponent: float = knob(1.0, "", "Zipf exponent of their popularity", at_least=0)
    document_tokens: float = knob(5000.0, "tokens", "mean length of a document", at_least=1)
    document_sigma: float = knob(0.6, "", "spread of the lengths (of their logarithm)", at_least=0)
    documents_per_request: int = knob(1, "documents", "in a prompt", at_least=1, at_most=100)
    preamble_tokens: int = knob(250, "tokens", "instructions before the documents", at_least=1)
    question_tokens: float = knob(60.0, "tokens", "mean length of a question", at_least=1)
    output_tokens: float = knob(200.0, "tokens", "mean length of an answer", at_least=1)


def retrieval(knobs: RetrievalKnobs, rng: np.random.Generator) -> Draft:
    """Draw the questions: O(N * documents_per_request * log N)."""
    rows, documents = knobs.num_requests, knobs.num_documents
    document_tokens = lognormal_tokens(
        rng, knobs.document_tokens, knobs.document_sigma, documents, _LONGEST_TOKENS
    )
    parents: list[NDArray[np.int64]] = [np.array([-1])]
    tokens: list[NDArray[np.int64]] = [np.array([knobs.preamble_tokens])]
    segments = 1
    under = np.zeros(rows, dtype=np.int64)  # the segment with which each prompt ends so far
    for _ in range(knobs.documents_per_request):
        document = zipf_choice(rng, documents, knobs.document_exponent, rows)
        pairs, which = np.unique(under * documents + document, return_inverse=True)
        parents.append(pairs // documents)
        tokens.append(document_tokens[pairs % documents])
        under = segments + which
        segments += pairs.size
    question = lognormal_tokens(rng, knobs.question_tokens, 0.6, rows, _LONGEST_TOKENS)
    return Draft(
        num_requests=rows,
        arrival_s=poisson_arrivals(rng, knobs.requests_per_s, rows),
        output_tokens=lognormal_tokens(rng, knobs.output_tokens, 0.8, rows, _LONGEST_TOKENS),
        leaf=segments + np.arange(rows),
        segment_parent=np.concatenate([*parents, under]),
        segment_tokens=np.concatenate([*tokens, question]),
        note="synthetic retrieval: questions about shared documents of Zipf popularity",
    )
