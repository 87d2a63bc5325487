"""Which deployments serve which model: the configuration, read with the price map's eyes.

Invariants
- A group holds one vector space; proven otherwise, start-up stops.
- Ids of deployments are unique, printable and never made from what a caller wrote.
- What a caller may not reach (chat models, providers without a key) is listed, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from embedpool_shared.catalog import same_name
from embedpool_shared.config.litellm_sections import LitellmParams, ModelEntry, ModelInfo
from embedpool_shared.config.notices import Notice, ignored, unused_in_entry, warning
from embedpool_shared.errors import ConfigInvalid
from embedpool_worker.fleet.assembly import Order, Served, assembled, printable_id
from embedpool_worker.fleet.model_names import WITHOUT_EMBEDDINGS, KnownModels, ModelPlace, place_of
from embedpool_worker.fleet.unlisted import models_of, providers_with_key
from embedpool_worker.fleet.vector_spaces import doubt_about
from embedpool_worker.patterns import ANY, Pattern
from embedpool_worker.providers import local

if TYPE_CHECKING:
    from embedpool_shared.config.file import LoadedConfig
    from embedpool_worker.deployments import Deployment

LOCAL_MODEL: Final = "wordllama"
LOCAL_ALIASES: Final = ("local", "default")
PER_KEY: Final = "enforced for each key in any minute; LiteLLM uses it mostly as a weight"

Group = tuple[Served, ...]


def _unwanted(about: ModelInfo) -> str:
    """Say why the operator does not want a deployment served as an embedding model."""
    if about.blocked:
        return "model_info.blocked"
    return "" if about.mode in {None, "embedding"} else f"its mode is {about.mode}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """Every deployment, by the model it serves."""

    groups: Mapping[str, Group]  # the lane's name → its deployments, in the file's order
    wildcards: Mapping[str, Group]  # pattern → its deployments, most specific first
    synonyms: Mapping[str, str]  # further names of groups
    known: KnownModels = field(repr=False)
    notices: tuple[Notice, ...] = ()

    def deployments_of(self, lane: str, model: str, provider: str = "") -> tuple[Deployment, ...]:
        """List who can answer for `model` in `lane`; empty when nobody may.

        `provider` restricts the choice as in `model@provider`. In a wildcard's lane a model that
        the price map knows to do something else than embedding has nobody.
        """
        served = self.groups.get(lane)
        if served is None:
            served = tuple(one for one in self.wildcards.get(lane, ()) if self._embeds(one, model))
        deployments = tuple([one.deployment for one in served])
        if not provider:
            return deployments
        wanted = same_name(provider)
        return tuple(one for one in deployments if same_name(one.provider) == wanted)

    def _embeds(self, one: Served, model: str) -> bool:
        if one.deployment.pattern and Pattern(one.deployment.pattern).captured(model) is None:
            return False
        place = ModelPlace(one.deployment.provider, one.deployment.upstream_of(model))
        return self.known.other_mode(place) is None


def build_fleet(
    loaded: LoadedConfig,
    known: KnownModels,
    environ: Mapping[str, str],
    *,
    has_local_model: bool = True,
) -> Fleet:
    """Deploy what the configuration lists, and what it allows unlisted; raises `ConfigInvalid`."""
    builder = _Builder(loaded, known)
    builder.has_local_model = has_local_model
    builder.environ = loaded.config.environ(environ)
    try:
        builder.deploy_listed()
        if loaded.path is None and has_local_model:
            builder.deploy(LOCAL_MODEL, ModelPlace("local", LOCAL_MODEL))
        builder.deploy_unlisted()
        builder.check_spaces()
    except ConfigInvalid as error:
        raise ConfigInvalid(f"{loaded.path or 'environment'}: {error.message}") from None
    return builder.fleet()


class _Builder:
    def __init__(self, loaded: LoadedConfig, known: KnownModels) -> None:
        self.config = loaded.config
        self.has_file = loaded.path is not None
        self.has_local_model = True
        self.known = known
        self.environ: Mapping[str, str] = {}
        self.notices: list[Notice] = []
        self.synonyms: dict[str, str] = {}
        self._groups: dict[str, list[Served]] = {}
        self._wildcards: dict[str, list[tuple[ModelEntry, Served]]] = {}
        self._ids: set[str] = set()
        self._wants_every_provider = False

    def fleet(self) -> Fleet:
        if not self._groups and not self._wildcards:
            self.notices.append(warning("model_list", "no embedding model is served"))
        ordered = sorted(self._wildcards, key=lambda text: Pattern(text).specificity)
        return Fleet(
            {name: tuple(group) for name, group in self._groups.items()},
            {text: tuple(one for _, one in self._wildcards[text]) for text in ordered},
            self.synonyms,
            self.known,
            tuple(self.notices),
        )

    def deploy_listed(self) -> None:
        for position, entry in enumerate(self.config.model_list):
            path = f"model_list[{position}] ({entry.model_name})"
            place = self._place(path, entry)
            if place is None:
                continue
            self.notices += unused_in_entry(position, entry)
            self._remark(path, entry.litellm_params)
            if place.provider == ANY:
                self._pass_any_name_on(path, entry)
            else:
                self._deploy_entry(path, entry, place)
        self._expand_wildcards()

    def _place(self, path: str, entry: ModelEntry) -> ModelPlace | None:
        params, about = entry.litellm_params, entry.model_info
        if unwanted := _unwanted(about):
            self.notices.append(ignored(path, unwanted))
            return None
        try:
            place = place_of(params.model, self.known, has_address=params.api_base is not None)
        except ConfigInvalid as error:
            raise ConfigInvalid(f"{path}: {error.message}") from None
        if place is None:
            self.notices.append(self._unplaced(path, params.model))
            return None
        if place.provider in WITHOUT_EMBEDDINGS:
            if about.mode:
                raise ConfigInvalid(f"{path}: {place.provider} has no embeddings")
            self.notices.append(ignored(path, f"{place.provider} has no embeddings"))
            return None
        if place.provider == "local" and not self.has_local_model:
            self.notices.append(ignored(path, local.NOT_INSTALLED))
            return None
        mode = None if about.mode else self.known.other_mode(place, about.base_model)
        if mode:
            self.notices.append(ignored(path, f"LiteLLM's price map says its mode is {mode}"))
        return None if mode else place

    def _unplaced(self, path: str, model: str) -> Notice:
        if self.known.provider_of(model) == "":
            return ignored(path, f"LiteLLM's price map says its mode is {self.known.modes[model]}")
        return warning(path, f"not served: {model} names no provider; write provider/{model}")

    def _remark(self, path: str, params: LitellmParams) -> None:
        self.notices += [
            warning(f"{path} {name}", PER_KEY)
            for name in ("rpm", "tpm")
            if getattr(params, name) is not None
        ]

    def _pass_any_name_on(self, path: str, entry: ModelEntry) -> None:
        if entry.model_name != ANY:
            self.notices.append(warning(path, 'not served: the model "*" needs model_name "*"'))
            return
        self._wants_every_provider = True
        if entry.litellm_params.names_key:
            reason = "every provider gets its own key from the environment, so this one is not used"
            self.notices.append(ignored(f"{path} api_key", reason))

    def _deploy_entry(self, path: str, entry: ModelEntry, place: ModelPlace) -> None:
        name = entry.model_name
        if ANY not in name:
            if place.is_pattern:
                self.notices.append(warning(path, "not served: only its model has a *"))
                return
            one = self.deploy(name, place, entry)
        else:
            one = self._assembled(place, entry, pattern=name)
            self._wildcards.setdefault(name, []).append((entry, one))
        if one.missing and not entry.litellm_params.names_key:
            self.notices.append(warning(path, one.missing))

    def deploy(self, name: str, place: ModelPlace, entry: ModelEntry | None = None) -> Served:
        """Add a deployment to the group `name`."""
        one = self._assembled(place, entry)
        self._groups.setdefault(name, []).append(one)
        return one

    def _assembled(
        self, place: ModelPlace, entry: ModelEntry | None = None, *, pattern: str = ""
    ) -> Served:
        params = entry.litellm_params if entry else LitellmParams(model=place.full_name)
        about = entry.model_info if entry else ModelInfo()
        order = Order(
            id=self._unique(about.id or place.full_name),
            place=place,
            params=params,
            about=about,
            pattern=pattern,
            timeout_s=self.config.request_timeout_s,
        )
        return assembled(order, self.known, self.environ)

    def _unique(self, name: str) -> str:
        wanted = unique = printable_id(name)
        number = 1
        while unique in self._ids:
            number += 1
            unique = f"{wanted}-{number}"
        self._ids.add(unique)
        return unique

    def _expand_wildcards(self) -> None:
        """Give the models that the price map knows lanes, prices and limits of their own."""
        taken = set(self._groups)
        for text in sorted(self._wildcards, key=lambda text: Pattern(text).specificity):
            found: set[str] = set()
            for entry, one in self._wildcards[text]:
                target = one.deployment.target
                if not target:
                    continue
                for model, _ in models_of(one.deployment.provider, self.known):
                    capture = Pattern(target).captured(model)
                    name = Pattern(text).filled(capture or "")
                    if capture and name not in taken:
                        found.add(name)
                        self.deploy(name, ModelPlace(one.deployment.provider, model), entry)
            taken |= found

    def deploy_unlisted(self) -> None:
        listed = self.config.unlisted_providers
        everybody = providers_with_key(self.known, self.environ)
        is_open = self.config.master_key is None or not self.has_file
        if self._wants_every_provider or (listed is None and is_open):
            for provider in everybody:
                self._deploy_provider(provider)
        for provider in listed or ():
            if provider in WITHOUT_EMBEDDINGS:
                raise ConfigInvalid(f"unlisted_providers: {provider} has no embeddings")
            self._deploy_provider(provider)

    def _deploy_provider(self, provider: str) -> None:
        self._deploy_wildcard(provider)
        for model, listed_as in models_of(provider, self.known):
            name = f"{provider}/{model}"
            if name not in self._groups:
                self.deploy(name, ModelPlace(provider, model))
            if listed_as != name:
                self.synonyms.setdefault(listed_as, name)

    def _deploy_wildcard(self, provider: str) -> None:
        pattern = f"{provider}/{ANY}"
        if pattern in self._wildcards:
            return
        entry = ModelEntry(model_name=pattern, litellm_params=LitellmParams(model=pattern))
        one = self._assembled(ModelPlace(provider, ANY), entry, pattern=pattern)
        self._wildcards[pattern] = [(entry, one)]
        if one.missing:
            self.notices.append(warning(f"unlisted_providers {provider}", one.missing))

    def check_spaces(self) -> None:
        for name, group in self._groups.items():
            doubt = doubt_about(name, [one.space for one in group])
            if doubt:
                self.notices.append(warning(f"model_name {name}", doubt))
