-- Every event of the registry stream, in log order, with what became of it and the hash chain.
-- accepted is NULL where nothing was decided: a repeat, or a dead letter. What could not be decoded
-- has no type either.
CREATE TABLE fold.requests (
    "offset" BIGINT NOT NULL,
    appended_at_ms BIGINT NOT NULL,
    hash BLOB NOT NULL,
    event_id BLOB,
    type VARCHAR,
    actor VARCHAR,
    actor_verified BOOLEAN,
    client VARCHAR,
    reason VARCHAR,
    entity VARCHAR,
    experiment_id VARCHAR,
    model VARCHAR,
    model_key VARCHAR,
    version BIGINT,
    alias VARCHAR,
    accepted BOOLEAN,
    code VARCHAR,
    message VARCHAR,
    request JSON
);

-- Everything that changes, as half-open intervals of offsets: [from_offset, to_offset).
-- An open interval (to_offset is NULL) is the current state. entity_id is an experiment_id or, for
-- models, their versions and aliases, a model_key.
CREATE TABLE fold.history (
    interval_id BIGINT NOT NULL,
    entity VARCHAR NOT NULL,
    entity_id VARCHAR NOT NULL,
    version BIGINT,
    attribute VARCHAR NOT NULL,
    key VARCHAR,
    value VARCHAR,
    from_offset BIGINT NOT NULL,
    to_offset BIGINT,
    from_time_ms BIGINT,
    to_time_ms BIGINT,
    from_event_id BLOB,
    actor VARCHAR,
    actor_verified BOOLEAN,
    reason VARCHAR
);

-- Experiments with their present values; none ever leaves.
CREATE TABLE fold.experiments (
    experiment_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    artifact_location VARCHAR,
    deleted BOOLEAN NOT NULL,
    created_at_ms BIGINT,
    updated_at_ms BIGINT,
    created_by VARCHAR
);

-- Registered models with their present values. model_key is the offset of the event that created
-- the model: it stays through renames, and another model under an old name has its own.
CREATE TABLE fold.models (
    model_key VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    description VARCHAR,
    next_version BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

-- Model versions with their present values, those deleted included.
CREATE TABLE fold.model_versions (
    model_key VARCHAR NOT NULL,
    version BIGINT NOT NULL,
    stage VARCHAR NOT NULL,
    description VARCHAR,
    source VARCHAR NOT NULL,
    run_id VARCHAR,
    model_id VARCHAR,
    run_link VARCHAR,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

-- The experiment that is there from the start, as in MLflow.
INSERT INTO fold.experiments VALUES ('0', 'Default', NULL, false, NULL, NULL, NULL);

-- Its history begins before the first event, at no known time.
INSERT INTO fold.history BY NAME
SELECT
    row_number() OVER () - 1 AS interval_id, 'experiment' AS entity, '0' AS entity_id,
    attribute, value, -1 AS from_offset
FROM (VALUES ('lifecycle', 'active'), ('name', 'Default'), ('updated', NULL)) AS v (attribute, value);
