"""What a pipeline runs before a deployment: promote the challenger if it is better by a margin.

python gate.py MODEL
"""

import sys

from mlflow import MlflowClient

THRESHOLD, MARGIN = 0.85, 0.01


def main(name: str) -> int:
    """0 where the challenger was promoted, else 1."""
    client = MlflowClient()
    challenger = client.get_model_version_by_alias(name, "challenger")
    champion = client.get_model_version_by_alias(name, "champion")
    new, old = (
        client.get_run(version.run_id).data.metrics["auc"] for version in (challenger, champion)
    )
    if new < THRESHOLD or new < old + MARGIN:
        print(f"auc {new} of version {challenger.version} is not enough: champion has {old}")  # noqa: T201
        return 1
    reason = f"auc {new} against {old}, margin {MARGIN}"
    client.set_model_version_tag(name, challenger.version, "modeltrail.reason", reason)
    client.set_registered_model_alias(name, "previous-champion", champion.version)
    client.set_registered_model_alias(name, "champion", challenger.version)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
