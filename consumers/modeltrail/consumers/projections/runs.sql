-- The place of each event of the stream in the hash chain of its partition: the first 8 bytes of the
-- hash. fold.positions has the end of the chain in full. `run` is the number of the event's run; NULL
-- for events of logged models, and for those that could not be decoded or came before any of the run.
CREATE TABLE fold.links (
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    appended_at_ms BIGINT NOT NULL,
    hash BIGINT NOT NULL,
    run INTEGER
);

-- Runs, one row each. `run` is this file's own number for the run; it is in no public view.
CREATE TABLE fold.runs (
    run INTEGER NOT NULL,
    run_id VARCHAR NOT NULL,
    partition INTEGER NOT NULL,
    started BOOLEAN NOT NULL,
    experiment_id VARCHAR,
    experiment_name VARCHAR,
    experiment_derived_id VARCHAR,
    name VARCHAR,
    status VARCHAR NOT NULL,
    started_at_ms BIGINT,
    ended_at_ms BIGINT,
    "user" VARCHAR,
    parent_run_id VARCHAR,
    message VARCHAR,
    deleted BOOLEAN NOT NULL,
    entry_point VARCHAR,
    git_commit VARCHAR,
    git_branch VARCHAR,
    git_dirty BOOLEAN,
    git_remote VARCHAR,
    host VARCHAR,
    process_id BIGINT,
    python_version VARCHAR,
    platform VARCHAR,
    environment VARCHAR,
    heartbeat_interval_ms BIGINT,
    heart_stopped BOOLEAN NOT NULL,
    events_after_end BIGINT NOT NULL,
    actor VARCHAR,
    actor_verified BOOLEAN,
    appended_at_ms BIGINT NOT NULL,
    "offset" BIGINT NOT NULL
);

-- What fold.runs had of each run after each event that changed it.
CREATE TABLE fold.run_changes (
    run INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    appended_at_ms BIGINT NOT NULL,
    name VARCHAR,
    status VARCHAR NOT NULL,
    ended_at_ms BIGINT,
    message VARCHAR,
    deleted BOOLEAN NOT NULL
);

-- What changes with every batch of a running run, apart from fold.runs so that an update is narrow.
CREATE TABLE fold.activity (
    run INTEGER NOT NULL,
    events_missing BIGINT NOT NULL,
    points_logged BIGINT NOT NULL,
    points_dropped BIGINT NOT NULL,
    points_stored BIGINT NOT NULL,
    last_seen_offset BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL
);

CREATE TABLE fold.params (run INTEGER NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL);

-- Values that came after another value of the same param, which stands.
CREATE TABLE fold.param_conflicts (
    run INTEGER NOT NULL,
    key VARCHAR NOT NULL,
    value VARCHAR NOT NULL,
    refused_value VARCHAR NOT NULL,
    "offset" BIGINT NOT NULL,
    appended_at_ms BIGINT NOT NULL
);

CREATE TABLE fold.tags (run INTEGER NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL);

CREATE TABLE fold.datasets (
    run INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    digest VARCHAR NOT NULL,
    source_type VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    schema VARCHAR,
    profile VARCHAR,
    tags MAP(VARCHAR, VARCHAR)
);

CREATE TABLE fold.artifacts (
    run INTEGER NOT NULL,
    path VARCHAR NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL,
    location VARCHAR NOT NULL,
    appended_at_ms BIGINT NOT NULL
);

-- Installed packages. Runs with equal packages share an environment, named by its digest.
CREATE TABLE fold.environments (
    environment VARCHAR NOT NULL, name VARCHAR NOT NULL, version VARCHAR NOT NULL
);

-- What points belong to, with the latest point (the greatest by step, then timestamp, then value), the
-- least and greatest finite value, the least step, and the least and greatest timestamp.
CREATE TABLE fold.series (
    series INTEGER NOT NULL,
    run INTEGER NOT NULL,
    key VARCHAR NOT NULL,
    model_id VARCHAR,
    dataset_name VARCHAR,
    dataset_digest VARCHAR,
    points BIGINT NOT NULL,
    step BIGINT NOT NULL,
    timestamp_ms BIGINT NOT NULL,
    value DOUBLE NOT NULL,
    min_value DOUBLE,
    max_value DOUBLE,
    min_step BIGINT NOT NULL,
    min_time_ms BIGINT NOT NULL,
    max_time_ms BIGINT NOT NULL
);

CREATE TABLE fold.points (
    series INTEGER NOT NULL,
    step BIGINT NOT NULL,
    timestamp_ms BIGINT NOT NULL,
    value DOUBLE NOT NULL
);

-- Summaries of the points in rows first_row to end_row - 1 of fold.points, see blocks.py: those of one
-- series from step_min to step_max, and within these times. lo, hi and sum are of finite values; first
-- and last are the values of the least and greatest point by step, then timestamp, then value.
-- late: an earlier block has a step as great as step_min. The levels are the logarithms of the widths of
-- the cells that it lies in.
CREATE TABLE fold.blocks (
    series INTEGER NOT NULL,
    first_row BIGINT NOT NULL,
    end_row BIGINT NOT NULL,
    step_min BIGINT NOT NULL,
    step_max BIGINT NOT NULL,
    time_min BIGINT NOT NULL,
    time_max BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    late BOOLEAN NOT NULL,
    step_level UTINYINT NOT NULL,
    time_level UTINYINT NOT NULL,
    n INTEGER NOT NULL,
    nan INTEGER NOT NULL,
    pos_inf INTEGER NOT NULL,
    neg_inf INTEGER NOT NULL,
    lo DOUBLE,
    hi DOUBLE,
    first DOUBLE NOT NULL,
    last DOUBLE NOT NULL,
    sum DOUBLE NOT NULL
);

-- Model versions that training jobs asked for; a server takes them over into the registry.
-- taken_over_by is the id of the event that does it, the same on every server.
CREATE TABLE fold.registrations (
    event_id BLOB NOT NULL,
    taken_over_by BLOB NOT NULL,
    run_id VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    description VARCHAR,
    tags MAP(VARCHAR, VARCHAR),
    aliases VARCHAR[],
    actor VARCHAR NOT NULL,
    actor_verified BOOLEAN NOT NULL,
    reason VARCHAR,
    partition INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    appended_at_ms BIGINT NOT NULL
);
