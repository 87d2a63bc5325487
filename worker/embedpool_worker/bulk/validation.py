"""Whether a batch can begin: one pass over its input, in little memory. Pure.

It takes as long as the file is long: callers run it in a thread, and stop it by `is_stopped`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from embedpool_shared.batches import LineProblem
from embedpool_shared.errors import EmbedPoolError
from embedpool_shared.statuses import row_of
from embedpool_worker.bulk.duplicates import Seen
from embedpool_worker.bulk.lines import Asked, asked, cut, inputs_in, shown

MAX_PROBLEMS: Final = 100
GLANCE_LINES: Final = 256
"""So often it is asked whether to stop."""
SUSPECTS_AT_ONCE: Final = 4 * MAX_PROBLEMS
"""Of how many equal hashes the names are compared in one pass: their names are in memory then."""


class Bounds(NamedTuple):
    """How large a batch may be."""

    max_lines: int
    max_inputs: int
    max_line_bytes: int


class Validated(NamedTuple):
    """A batch that can begin."""

    total: int  # lines
    inputs: int
    model: str  # as every line names it


class Validation:
    """The pass over one batch's input."""

    def __init__(
        self,
        read: Callable[[], Iterable[bytes]],
        bounds: Bounds,
        *,
        check_model: Callable[[str], object],
        default_model: str | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`read` begins with the file anew; `check_model` raises our error for a model not usable.

        `default_model` is that of a body that names none.
        """
        self._read = read
        self._bounds = bounds
        self._check_model = check_model
        self._default_model = default_model
        self._is_stopped = is_stopped
        self._problems: list[LineProblem] = []
        self._seen = Seen()
        self._model: str | None = None
        self._lines = self._inputs = 0

    def result(self) -> Validated | list[LineProblem] | None:
        """Say what the batch is, or what is wrong with it; None where it was stopped."""
        for found in self._asked():
            if isinstance(found, LineProblem):
                self._problems.append(found)
            else:
                self._look_at(found)
            if self._is_enough() or self._is_too_much(found):
                break
            self._lines += 1
        else:
            self._compare_suspects()
        if self._is_stopped():
            return None
        if not self._lines and not self._problems:
            self._problems.append(LineProblem(code="empty_file", message="The file has no line."))
        if self._problems or self._model is None:
            return sorted(self._problems, key=lambda it: it.line or 0)[:MAX_PROBLEMS]
        return Validated(self._lines, self._inputs, self._model)

    def _asked(self) -> Iterator[Asked | LineProblem]:
        """Read every line, until somebody wants it to stop."""
        most = self._bounds.max_line_bytes
        for line in cut(self._read(), max_line_bytes=most):
            if line.number % GLANCE_LINES == 0 and self._is_stopped():
                return
            yield asked(line, max_line_bytes=most)

    def _look_at(self, line: Asked) -> None:
        self._seen.add(line.custom_id)
        self._inputs += inputs_in(line.body)
        named = line.body.get("model")
        model = self._default_model if named is None or named == "" else named
        if self._model is None:
            self._begin(line, model)
        elif model != self._model:
            words = f"names `{shown(model)}`" if type(model) is str else "names no model"
            self._problems.append(
                LineProblem(
                    code="mismatched_model",
                    message=f"This line {words}, the ones before it `{shown(self._model)}`: "
                    "a batch is for one model.",
                    line=line.number,
                    param="body.model",
                )
            )

    def _begin(self, line: Asked, model: Any) -> None:
        """Take the model of the first line for that of the batch, if it can be used."""
        if type(model) is not str:
            self._problems.append(
                LineProblem(
                    code="missing_required_parameter",
                    message="`body.model` is missing: the name of an embedding model.",
                    line=line.number,
                    param="body.model",
                )
            )
            return
        self._model = model
        try:
            self._check_model(model)
        except EmbedPoolError as error:
            self._problems.append(_of_error(error, line.number))

    def _is_enough(self) -> bool:
        return len(self._problems) >= MAX_PROBLEMS

    def _is_too_much(self, found: Asked | LineProblem) -> bool:
        """Say so where this line is one too many; nothing behind it is looked at."""
        bounds = self._bounds
        number = found.number if isinstance(found, Asked) else found.line
        if self._lines >= bounds.max_lines:
            self._problems.append(
                LineProblem(
                    code="too_many_tasks",
                    message=f"A batch has at most {bounds.max_lines} lines.",
                    line=number,
                )
            )
            return True
        if self._inputs > bounds.max_inputs:
            self._problems.append(
                LineProblem(
                    code="too_many_inputs",
                    message=f"The lines of a batch have at most {bounds.max_inputs} inputs "
                    "together; with this one there are more.",
                    line=number,
                    param="body.input",
                )
            )
            return True
        return False

    def _compare_suspects(self) -> None:
        suspects = self._seen.suspects()
        for at in range(0, len(suspects), SUSPECTS_AT_ONCE):
            names = (
                (line.number, line.custom_id) for line in self._asked() if isinstance(line, Asked)
            )
            few = suspects[at : at + SUSPECTS_AT_ONCE].tolist()
            for number, name, first in self._seen.repeated(names, few):
                self._problems.append(_duplicate(number, name, first))
                if self._is_enough():
                    return
            if self._is_stopped():
                return


def _duplicate(number: int, name: str, first: int) -> LineProblem:
    return LineProblem(
        code="duplicate_custom_id",
        message=f"The custom_id `{shown(name)}` is that of line {first}, too; "
        "within a batch each may occur once.",
        line=number,
        param="custom_id",
    )


def _of_error(error: EmbedPoolError, number: int) -> LineProblem:
    return LineProblem(
        code=error.code or row_of(error).code or "invalid_model",
        message=error.message,
        line=number,
        param="body.model",
    )
