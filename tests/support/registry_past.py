"""A model with a past: promotions, a refusal, a rollback, tags and a comment."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx

from api_server import Server


class Team:
    """People who ask the registry of a server, each by their own name."""

    def __init__(self, server: Server, model: str) -> None:
        self.client = httpx.Client(base_url=f"{server.url}/api/v1", timeout=30)
        self.path = f"/models/{model}"
        self.model = model

    def ask(self, method: str, path: str, who: str = "ada", **body: Any) -> dict[str, Any]:
        """Make a request; the answer, which may be a refusal."""
        headers = {"X-Modeltrail-Actor": who}
        answer = self.client.request(method, path, json=body, headers=headers)
        return dict(answer.json())

    def alias(self, alias: str, version: int, expected: int, reason: str, who: str) -> bool:
        """Point an alias at a version; True if it was accepted."""
        answer = self.ask(
            "PUT",
            f"{self.path}/aliases/{alias}",
            who,
            version=version,
            expected=expected,
            reason=reason,
        )
        return "error_code" not in answer

    def stage(self, version: int, stage: str, reason: str, who: str) -> None:
        """Move a version into a stage, and archive who was there."""
        self.ask(
            "PUT",
            f"{self.path}/versions/{version}/stage",
            who,
            stage=stage,
            reason=reason,
            archive_existing_versions=True,
        )

    def past(self, run_ids: list[str]) -> None:
        """Make the model with a version of each run, of three at least, and its past."""
        self.ask(
            "POST",
            "/models",
            "grace",
            model=self.model,
            description="Probability of fraud.",
            tags={"owner": "risk"},
        )
        for run_id in run_ids:
            source = f"runs:/{run_id}/model"
            self.ask("POST", f"{self.path}/versions", "ci-bot", source=source, run_id=run_id)
        assert self.alias("champion", 1, 0, "first go-live", "bob")
        self.stage(1, "Production", "first go-live", "bob")
        assert self.alias("champion", 2, 1, "shadow week looks right", "grace")
        self.stage(2, "Production", "shadow week looks right", "grace")
        assert not self.alias("champion", 1, 1, "nightly refresh", "ci-bot")
        assert self.alias("champion", 3, 2, "release train 48", "bob")
        self.stage(3, "Production", "release train 48", "bob")
