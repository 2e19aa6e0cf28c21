"""The process that has vLLM imported and forks a child for every offline run it is told.

Owns: running an `LLM` on the requests of a file. Leaves to others: the files and the environment
(`offline`). Run as a script; it is not imported by tests.

Importing vLLM takes most of a short run's time, so it is paid once. The child sets its environment
before it asks anything of vLLM, whose settings are read when they are used.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Fork a child for each line of the standard input, a run; answer with its pid and status."""
    import vllm.v1.engine.llm_engine  # noqa: F401

    _say(ready=True)
    for line in sys.stdin:
        run: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_in_child(run))
        _say(pid=pid)
        _, status = os.waitpid(pid, 0)
        _say(status=os.waitstatus_to_exitcode(status))


def _say(**facts: int) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _in_child(run: dict[str, Any]) -> int:
    os.setsid()  # so that what it starts can be ended with it
    log = os.open(run["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.clear()
    os.environ.update(run["environment"])
    try:
        _generate(run)
    except BaseException:  # the log is where the test looks; the status says that it must
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    sys.stdout.flush()
    sys.stderr.flush()
    return 0


def _generate(run: dict[str, Any]) -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(model=run["model"], **run["engine"])
    answers: dict[str, list[int]] = {}
    for requests in run["parts"]:
        prompts = [{"prompt_token_ids": prompt} for _, prompt, _ in requests]
        sampling = [
            SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False)
            for _, _, tokens in requests
        ]
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        for (name, _, _), output in zip(requests, outputs, strict=True):
            answers[name] = list(output.outputs[0].token_ids)
        if not llm.reset_prefix_cache():
            raise RuntimeError("the prefix cache could not be reset, though nobody runs")
    Path(run["answers"]).write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
