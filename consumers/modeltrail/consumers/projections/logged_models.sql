-- Logged models, one row each. Their events have the model's id as key, so that all events of a
-- model are in one partition, which may be another than that of the run that made it.
CREATE TABLE fold.logged_models (
    model_id VARCHAR NOT NULL,
    partition INTEGER NOT NULL,
    experiment_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    model_type VARCHAR,
    source_run_id VARCHAR,
    artifact_location VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    status_message VARCHAR,
    deleted BOOLEAN NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    actor VARCHAR NOT NULL,
    "offset" BIGINT NOT NULL
);

CREATE TABLE fold.logged_model_params (
    model_id VARCHAR NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL
);

CREATE TABLE fold.logged_model_tags (
    model_id VARCHAR NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL
);

CREATE TABLE fold.logged_model_artifacts (
    model_id VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    location VARCHAR NOT NULL,
    appended_at_ms BIGINT NOT NULL
);

-- Logged models that runs used, and made. The models may be unknown here: another stream's
-- partition has their events.
CREATE TABLE fold.model_inputs (run INTEGER NOT NULL, model_id VARCHAR NOT NULL);
CREATE TABLE fold.model_outputs (
    run INTEGER NOT NULL, model_id VARCHAR NOT NULL, step BIGINT NOT NULL
);
