"""Prompts by the unmodified client: MLflow's server and ours tell it the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api_server import Server
from mlflow_client import MlflowClient, python_with_mlflow
from mlflow_pair import MlflowServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_SCRIPT = """
from mlflow import genai
told = []

def tell(call, *args, **options):
    try:
        found = call(*args, **options)
    except MlflowException as error:
        told.append([call.__name__, error.error_code])
        return None
    told.append([call.__name__, found])

def shown(prompt):
    return None if prompt is None else {
        "name": prompt.name, "version": prompt.version, "template": prompt.template,
        "message": prompt.commit_message, "tags": dict(prompt.tags),
        "aliases": list(prompt.aliases),
        "variables": sorted(prompt.variables or ()), "is_text": prompt.is_text_prompt,
    }

def register(*args, **options): return shown(genai.register_prompt(*args, **options))
def load(*args, **options): return shown(genai.load_prompt(*args, **options))
def search(*args, **options):
    found = genai.search_prompts(*args, **options)
    return sorted([p.name, p.description, dict(p.tags)] for p in found)
def versions(name): return [v.version for v in client.search_prompt_versions(name)]
def models(): return [m.name for m in client.search_registered_models()]
def alias(*args): return genai.set_prompt_alias(*args)
def no_alias(*args): return genai.delete_prompt_alias(*args)
def tag(*args): return genai.set_prompt_tag(*args)
def no_tag(*args): return genai.delete_prompt_tag(*args)
def tags(name): return dict(client.get_prompt(name).tags)
def version_tag(*args): return genai.set_prompt_version_tag(*args)
def no_version_tag(*args): return genai.delete_prompt_version_tag(*args)
def model(name): return client.create_registered_model(name).name
def no_version(*args): return client.delete_prompt_version(*args)
def no_prompt(*args): return client.delete_prompt(*args)

tell(register, "greet", "Hello {{ name }}", commit_message="first", tags={"a": "1"})
tell(register, "greet", "Good day {{ name }} of {{ place }}", commit_message="second")
tell(register, "chat", [{"role": "user", "content": "Say {{ it }}"}])
tell(register, "bad/name", "x")
tell(load, "greet")
tell(load, "greet", version=1)
tell(load, "prompts:/greet/2")
tell(load, "greet", version=9)
tell(load, "none", version=1)
tell(alias, "greet", "production", 1)
tell(load, "prompts:/greet@production")
tell(alias, "greet", "production", 2)
tell(load, "prompts:/greet@production")
tell(alias, "greet", "other", 7)
tell(no_alias, "greet", "production")
tell(load, "prompts:/greet@production")
tell(tag, "greet", "team", "search")
tell(tags, "greet")
tell(search)
tell(search, filter_string="tags.team = 'search'")
tell(search, filter_string="name = 'chat'")
tell(no_tag, "greet", "team")
tell(tags, "greet")
tell(version_tag, "greet", 1, "checked", "yes")
tell(load, "greet", version=1)
tell(no_version_tag, "greet", 1, "checked")
tell(versions, "greet")
tell(models)
tell(model, "plain")
tell(register, "plain", "a prompt of a model's name")
tell(model, "greet")
tell(models)
tell(no_prompt, "greet")
tell(no_version, "greet", "1")
tell(versions, "greet")
tell(no_version, "greet", "2")
tell(no_prompt, "greet")
tell(load, "greet", version=2)
with mlflow.start_run() as run:
    load("chat", version=1)
print("told:", json.dumps(told, default=list))
"""


def test_prompts(server: Server, tmp_path: Path) -> None:
    python = python_with_mlflow("3")
    reference = MlflowServer(python, tmp_path)
    try:
        reference.ready()
        told = [
            json.loads(MlflowClient(python, url, tmp_path).run(_SCRIPT).partition("told:")[2])
            for url in (reference.url, server.url)
        ]
    finally:
        reference.stop()
    for theirs, ours in zip(*told, strict=True):
        assert theirs == ours
