from __future__ import annotations

import pytest

from embedpool_shared.errors import ConfigInvalid
from embedpool_worker.fleet.vector_spaces import VectorSpace, doubt_about


def space(
    name: str, model: str, dimensions: int | None = None, *, is_proven: bool = False
) -> VectorSpace:
    return VectorSpace(name, dimensions, model, is_proven)


def test_one_deployment_is_one_space() -> None:
    assert doubt_about("g", [space("a", "x")]) is None


def test_the_same_model_at_several_places_is_one_space() -> None:
    spaces = [
        space("a", "text-embedding-3-small", 1_536, is_proven=True),
        space("b", "azure/text-embedding-3-small", 1_536, is_proven=True),
        space("c", "Text_Embedding_3_Small"),
    ]

    assert doubt_about("g", spaces) is None


def test_different_dimensions_are_proof_even_when_the_first_is_unknown() -> None:
    spaces = [space("a", "x"), space("b", "x", 768), space("c", "x", 1_024)]

    with pytest.raises(ConfigInvalid, match=r"g: b has 768 dimensions and c has 1024"):
        doubt_about("g", spaces)


def test_different_base_models_are_proof() -> None:
    spaces = [
        space("a", "text-embedding-3-small", 1_536, is_proven=True),
        space("b", "text-embedding-ada-002", 1_536, is_proven=True),
    ]

    with pytest.raises(ConfigInvalid, match="cannot be compared"):
        doubt_about("g", spaces)


def test_what_nobody_knows_is_a_doubt() -> None:
    spaces = [
        space("a", "text-embedding-3-small", 1_536, is_proven=True),
        space("b", "my-deployment"),
    ]

    doubt = doubt_about("g", spaces)

    assert doubt is not None
    assert "whether a, b embed into the same space" in doubt
