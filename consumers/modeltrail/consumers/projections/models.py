"""The registered models of the registry, with their versions, aliases and stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import duckdb

from modeltrail.consumers.projections import registry_rules as rules
from modeltrail.consumers.projections.access import Access
from modeltrail.consumers.projections.ledger import Created, Decisions, Entity, Ledger
from modeltrail.consumers.projections.registry_rules import Rejected
from modeltrail.consumers.projections.requests import Event

_PROMPT = "mlflow.prompt.is_prompt"


@dataclass(slots=True, kw_only=True, eq=False)
class Version(Entity):
    """A row of ``fold.model_versions``."""

    table = "fold.model_versions"
    keys = ("model_key", "version")
    kind = "model_version"
    model_key: Final[str]
    version: Final[int]
    stage: str
    description: str | None
    source: Final[str]
    run_id: Final[str | None]
    model_id: Final[str | None]
    run_link: Final[str | None]
    created_at_ms: Final[int]
    created_by: Final[str]
    decided: dict[tuple[str, str | None], int] = field(default_factory=dict, init=False)
    """The offsets of the last alias and stage requests that were accepted, by type and alias."""


@dataclass(slots=True, kw_only=True, eq=False)
class Model(Entity):
    """A row of ``fold.models``, with its versions that are not deleted."""

    table = "fold.models"
    keys = ("model_key",)
    kind = "model"
    model_key: Final[str]
    model: str
    description: str | None
    next_version: int
    created_at_ms: Final[int]
    created_by: Final[str]
    versions: dict[int, Version] = field(default_factory=dict, init=False)

    def alias(self, name: str) -> int | None:
        """Return the version that an alias points at."""
        interval = self.open.get(("alias", name))
        return None if interval is None else int(interval.value or 0)


class Models:
    """Decides the events about registered models and their versions."""

    def __init__(self, ledger: Ledger, access: Access) -> None:
        """Write effects to a ledger. ``access`` gives the creator of a model MANAGE on it."""
        self._ledger = ledger
        self._access = access
        self._by_name: dict[str, Model] = {}
        self._by_key: dict[str, Model] = {}

    def load(self, con: duckdb.DuckDBPyConnection) -> None:
        """Load the state from the tables."""
        for model in self._ledger.load(con, Model):
            self._by_key[model.model_key] = self._by_name[model.model] = model
        for version in self._ledger.load(con, Version):
            self._by_key[version.model_key].versions[version.version] = version
        for key, number, type, alias, offset in con.execute(
            """SELECT model_key, version, type, alias, max("offset") FROM fold.requests
               WHERE accepted AND type IN ('SetRegisteredModelAlias', 'TransitionModelVersionStage')
               GROUP BY ALL"""
        ).fetchall():
            if key in self._by_key and number in self._by_key[key].versions:
                self._by_key[key].versions[number].decided[type, alias] = offset

    def decisions(self) -> Decisions:
        """Return the function that decides each type of event, by entity."""
        return {
            "model": {
                "ChangeRegisteredModelTags": self._change_tags,
                "CreateRegisteredModel": self._create,
                "DeleteRegisteredModel": self._delete,
                "ImportRegisteredModel": self._import,
                "RenameRegisteredModel": self._rename,
                "UpdateRegisteredModel": self._update,
            },
            "alias": {
                "DeleteRegisteredModelAlias": self._delete_alias,
                "SetRegisteredModelAlias": self._set_alias,
            },
            "model_version": {
                "ChangeModelVersionTags": self._change_version_tags,
                "CommentAdded": self._comment,
                "CreateModelVersion": self._create_version,
                "DeleteModelVersion": self._delete_version,
                "ImportModelVersion": self._import_version,
                "TransitionModelVersionStage": self._transition,
                "UpdateModelVersion": self._update_version,
            },
        }

    # -- for readers, while no event is applied ---------------------------------------------

    def model(self, name: str) -> Model | None:
        """Return an existing registered model."""
        return self._by_name.get(name)

    def by_key(self, key: str | None) -> Model | None:
        """Return an existing registered model by its key, which renames do not change."""
        return self._by_key.get(key or "")

    def version(self, name: str, number: int) -> Version | None:
        """Return an existing version of a registered model."""
        model = self._by_name.get(name)
        return None if model is None else model.versions.get(number)

    # -- registered models ------------------------------------------------------------------

    def _create(self, event: Event) -> None:
        self._add_checked(event, self._ledger.created())

    def _import(self, event: Event) -> None:
        self._add_checked(event, self._ledger.created(event))

    def _add_checked(self, event: Event, created: Created) -> None:
        name, tags = event["model"], event["tags"]
        rules.model_name(name)
        rules.description(event["description"])
        rules.tags(tags, rules.MODEL_TAG_VALUE_MAX)
        holder = self._by_name.get(name)
        if holder is not None:
            raise Rejected(rules.EXISTS, _name_is_taken(name, holder, tags))
        self._add_model(name, event["description"], tags, created)

    def _add_model(
        self, name: str, description: str | None, tags: Mapping[str, str], created: Created
    ) -> Model:
        key = self._ledger.request.model_key = str(self._ledger.request.offset)
        model = self._by_name[name] = self._by_key[key] = self._ledger.begin(
            Model(model_key=key, model=name, description=description, next_version=1, **created)
        )
        self._ledger.put(model, "name", None, name)
        if description is not None:
            self._ledger.put(model, "description", None, description)
        self._ledger.put_tags(model, tags)
        self._access.grant_creator("registered_model", key)
        return model

    def _model(self, event: Event) -> Model:
        name = event["model"]
        rules.model_name(name)
        model = self._by_name.get(name)
        if model is None:
            raise Rejected(rules.MISSING, f"Registered Model with name={name} not found")
        return model

    def _update(self, event: Event) -> None:
        description = event["description"]
        rules.description(description)
        model = self._model(event)
        self._ledger.put(model, "description", None, description)
        model.description = description
        self._ledger.touch(model)

    def _rename(self, event: Event) -> None:
        name = event["name"]
        rules.model_name(name, "new_name")
        model = self._model(event)
        old = model.model
        if name != old:
            if name in self._by_name:
                raise Rejected(rules.EXISTS, f"Registered Model (name={name}) already exists.")
            self._by_name[name] = self._by_name.pop(old)
            self._ledger.put(model, "name", None, name)
            model.model = name
        self._ledger.touch(model)
        for version in model.versions.values():
            self._ledger.touch(version)

    def _delete(self, event: Event) -> None:
        model = self._model(event)
        for version in model.versions.values():
            self._ledger.end(version)
        self._ledger.end(model)
        self._access.forget("registered_model", model.model_key)
        del self._by_name[model.model]
        del self._by_key[model.model_key]

    def _change_tags(self, event: Event) -> None:
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        self._ledger.put_tags(self._model(event), event["tags"])

    # -- aliases ----------------------------------------------------------------------------

    def _set_alias(self, event: Event) -> None:
        rules.model_name(event["model"])
        rules.new_alias(event["alias"])
        model, version = self._version(event)
        self._expect_alias(model, event)
        self._ledger.put(model, "alias", event["alias"], str(event["version"]))
        self._note_decided(version)

    def _delete_alias(self, event: Event) -> None:
        rules.model_name(event["model"])
        rules.alias(event["alias"])
        model = self._model(event)
        self._expect_alias(model, event)
        points_at = model.alias(event["alias"])
        if points_at is not None:
            self._ledger.request.version = points_at
            self._ledger.remove(model, "alias", event["alias"])

    def _expect_alias(self, model: Model, event: Event) -> None:
        expected = event["expected_version"]
        if expected is None:
            return
        found = model.alias(event["alias"])
        if found != (expected or None):
            raise Rejected(
                rules.CONFLICT,
                f"Registered model alias {event['alias']} of {event['model']} was expected to "
                f"{_pointing(expected or None)}, but it is found to {_pointing(found)}.",
            )

    # -- model versions ---------------------------------------------------------------------

    def _create_version(self, event: Event) -> None:
        name = event["model"]
        rules.model_name(name)
        if event["refusal"] is not None:
            raise Rejected(rules.INVALID, event["refusal"])
        rules.source(event["source"])
        rules.description(event["description"])
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        for alias in event["aliases"]:
            rules.new_alias(alias)
        if event["create_model"] and name not in self._by_name:
            model = self._add_model(name, None, {}, self._ledger.created())
        else:
            model = self._model(event)
        number = model.next_version
        self._add_version(model, number, event, "None", self._ledger.created())
        for alias in event["aliases"]:
            self._ledger.put(model, "alias", alias, str(number))
        self._ledger.touch(model)

    def _import_version(self, event: Event) -> None:
        number = event["version"]
        rules.model_name(event["model"])
        rules.source(event["source"])
        rules.description(event["description"])
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        stage = rules.stage(event["stage"])
        model = self._model(event)
        following = model.next_version
        if number < following:
            raise Rejected(
                rules.CONFLICT,
                f"Model Version (name={event['model']}, version={number}) cannot be imported: "
                f"numbers below {following} are used up.",
            )
        if event["deleted"]:
            model.next_version = number + 1
            self._ledger.change(model)
            return
        self._add_version(model, number, event, stage, self._ledger.created(event))

    def _add_version(
        self, model: Model, number: int, event: Event, stage: str, created: Created
    ) -> None:
        self._ledger.request.version = number
        version = model.versions[number] = self._ledger.begin(
            Version(
                model_key=model.model_key,
                version=number,
                stage=stage,
                description=event["description"],
                source=event["source"],
                run_id=event["run_id"] or None,
                model_id=event["model_id"] or None,
                run_link=event["run_link"] or None,
                **created,
            )
        )
        self._ledger.put(version, "stage", None, stage)
        if event["description"] is not None:
            self._ledger.put(version, "description", None, event["description"])
        self._ledger.put_tags(version, event["tags"])
        model.next_version = number + 1
        self._ledger.change(model)

    def _version(self, event: Event) -> tuple[Model, Version]:
        name, number = event["model"], event["version"]
        rules.model_name(name)
        version = self.version(name, number)
        if version is None:
            raise Rejected(
                rules.MISSING, f"Model Version (name={name}, version={number}) not found"
            )
        return self._by_name[name], version

    def _update_version(self, event: Event) -> None:
        description = event["description"]
        rules.description(description)
        _, version = self._version(event)
        self._ledger.put(version, "description", None, description)
        version.description = description
        self._ledger.touch(version)

    def _comment(self, event: Event) -> None:
        rules.comment(event["text"])
        self._version(event)

    def _transition(self, event: Event) -> None:
        stage = rules.stage(event["stage"])
        expected = event["expected_stage"]
        if expected is not None:
            expected = rules.stage(expected)
        archive = event["archive_existing_versions"]
        if archive and stage not in rules.ACTIVE_STAGES:
            raise Rejected(
                rules.INVALID,
                "Model version transition cannot archive existing model versions because "
                f"'{event['stage']}' is not an Active stage. Valid stages are "
                f"{list(rules.ACTIVE_STAGES)}",
            )
        model, version = self._version(event)
        found = version.stage
        if expected is not None and expected != found:
            raise Rejected(
                rules.CONFLICT,
                f"Model Version (name={event['model']}, version={event['version']}) was expected "
                f"to be in stage {expected}, but it is found in stage {found}.",
            )
        if archive:
            for other in model.versions.values():
                if other is not version and other.stage == stage:
                    self._move(other, "Archived")
        self._move(version, stage)
        self._ledger.touch(model)
        self._note_decided(version)

    def _note_decided(self, version: Version) -> None:
        request = self._ledger.request
        version.decided[request.type, request.alias] = request.offset

    def _move(self, version: Version, stage: str) -> None:
        self._ledger.put(version, "stage", None, stage)
        version.stage = stage
        self._ledger.touch(version)

    def _delete_version(self, event: Event) -> None:
        model, version = self._version(event)
        number = event["version"]
        text = str(number)
        pointing = [
            key
            for (attribute, key), i in model.open.items()
            if attribute == "alias" and i.value == text
        ]
        for alias in pointing:
            self._ledger.remove(model, "alias", alias)
        self._ledger.end(version)
        del model.versions[number]
        self._ledger.touch(model)

    def _change_version_tags(self, event: Event) -> None:
        rules.tags(event["tags"], rules.MODEL_TAG_VALUE_MAX)
        _, version = self._version(event)
        self._ledger.put_tags(version, event["tags"])


def _name_is_taken(name: str, holder: Model, tags: Mapping[str, str]) -> str:
    """Return MLflow's message. It distinguishes prompts, which are registered models with a tag."""

    def word(is_prompt: str | None) -> str:
        return "Prompt" if (is_prompt or "").lower() == "true" else "Registered Model"

    tag = holder.open.get(("tag", _PROMPT))
    old, new = word(tag.value if tag else None), word(tags.get(_PROMPT))
    if old == new:
        return f"{new} (name={name}) already exists."
    return (
        f"Tried to create a {new.lower()} with name {name!r}, but the name is already taken by a "
        f"{old.lower()}. MLflow does not allow creating a model and a prompt with the same name."
    )


def _pointing(version: int | None) -> str:
    return "be unset" if version is None else f"point at version {version}"
