-- The public views over the runs stream, and over the fold itself, which users query. A released
-- column is never removed. All times are in UTC.

-- The experiments that had each name, as intervals. While a name is free it counts as that of the next
-- experiment to take it, so the intervals of a name follow each other without gaps.
CREATE VIEW fold.experiment_names AS
SELECT
    entity_id AS experiment_id,
    value AS name,
    coalesce(lag(to_time_ms) OVER names, -9223372036854775808) AS from_ms,
    coalesce(to_time_ms, 9223372036854775807) AS to_ms
FROM fold.history
WHERE entity = 'experiment' AND attribute = 'name'
WINDOW names AS (PARTITION BY value ORDER BY from_offset);

-- Runs that named their experiment: the experiment that held the name when the start was appended.
CREATE VIEW runs AS
SELECT
    r.run_id,
    coalesce(r.experiment_id, n.experiment_id, r.experiment_derived_id) AS experiment_id,
    coalesce(e.name, r.experiment_name) AS experiment_name,
    r.name,
    r.status,
    fold.at(r.started_at_ms) AS start_time,
    fold.at(r.ended_at_ms) AS end_time,
    (r.ended_at_ms - r.started_at_ms) / 1000 AS duration_s,
    r."user",
    r.parent_run_id,
    r.message,
    r.deleted,
    r.entry_point,
    r.git_commit,
    r.git_branch,
    r.git_dirty,
    r.git_remote,
    r.host,
    r.python_version,
    r.started AND a.events_missing = 0 AND a.points_dropped = 0 AS complete,
    a.events_missing,
    a.points_logged,
    a.points_dropped,
    a.points_stored,
    r.events_after_end,
    fold.at(a.last_seen_ms) AS last_seen,
    r.actor,
    fold.at(r.appended_at_ms) AS appended_at,
    'runs:' || r.partition || ':' || r."offset" AS position
FROM fold.runs r
JOIN fold.activity a ON a.run = r.run
LEFT JOIN fold.experiment_names n
    ON r.experiment_id IS NULL AND n.name = r.experiment_name
    AND r.appended_at_ms >= n.from_ms AND r.appended_at_ms < n.to_ms
LEFT JOIN experiments e
    ON e.experiment_id = coalesce(r.experiment_id, n.experiment_id, r.experiment_derived_id);

CREATE VIEW params AS
SELECT r.run_id, p.key, p.value FROM fold.params p JOIN fold.runs r ON r.run = p.run;

CREATE VIEW param_conflicts AS
SELECT
    r.run_id, c.key, c.value, c.refused_value,
    fold.at(c.appended_at_ms) AS appended_at,
    'runs:' || r.partition || ':' || c."offset" AS position
FROM fold.param_conflicts c JOIN fold.runs r ON r.run = c.run;

CREATE VIEW tags AS
SELECT r.run_id, t.key, t.value FROM fold.tags t JOIN fold.runs r ON r.run = t.run;

CREATE VIEW metrics AS
SELECT
    r.run_id, s.key, p.step, fold.at(p.timestamp_ms) AS "timestamp", p.value,
    s.model_id, s.dataset_name, s.dataset_digest
FROM fold.points p
JOIN fold.series s ON s.series = p.series
JOIN fold.runs r ON r.run = s.run;

CREATE VIEW latest_metrics AS
SELECT
    r.run_id, s.key, s.step, fold.at(s.timestamp_ms) AS "timestamp", s.value, s.points,
    s.min_value, s.max_value, s.model_id, s.dataset_name, s.dataset_digest
FROM fold.series s JOIN fold.runs r ON r.run = s.run;

CREATE VIEW datasets AS
SELECT r.run_id, d.name, d.digest, d.source_type, d.source, d.schema, d.profile, d.tags
FROM fold.datasets d JOIN fold.runs r ON r.run = d.run;

CREATE VIEW artifacts AS
SELECT r.run_id, a.path, a.size_bytes, a.sha256, a.location, fold.at(a.appended_at_ms) AS logged_at
FROM fold.artifacts a JOIN fold.runs r ON r.run = a.run;

CREATE VIEW packages AS
SELECT r.run_id, e.name, e.version
FROM fold.environments e JOIN fold.runs r ON r.environment = e.environment;

CREATE VIEW registrations AS
SELECT
    r.run_id, r.model, r.source, r.actor, r.reason,
    q.accepted, q.code, q.message, q.version,
    fold.at(r.appended_at_ms) AS requested_at, fold.at(q.appended_at_ms) AS decided_at,
    'runs:' || r.partition || ':' || r."offset" AS position
FROM fold.registrations r LEFT JOIN fold.requests q
    ON q.event_id = r.taken_over_by AND q.accepted IS NOT NULL;

CREATE VIEW logged_models AS
SELECT
    m.model_id, m.experiment_id, e.name AS experiment_name, m.name, m.model_type, m.status,
    m.status_message, m.source_run_id, m.artifact_location, m.deleted,
    fold.at(m.created_at_ms) AS created_at, fold.at(m.updated_at_ms) AS updated_at, m.actor AS created_by,
    'runs:' || m.partition || ':' || m."offset" AS position
FROM fold.logged_models m LEFT JOIN experiments e ON e.experiment_id = m.experiment_id;

CREATE VIEW logged_model_params AS FROM fold.logged_model_params;

CREATE VIEW logged_model_tags AS FROM fold.logged_model_tags;

CREATE VIEW logged_model_metrics AS
SELECT
    s.model_id, s.key, p.step, fold.at(p.timestamp_ms) AS "timestamp", p.value,
    s.dataset_name, s.dataset_digest, r.run_id
FROM fold.series s
JOIN fold.points p ON p.series = s.series
JOIN fold.runs r ON r.run = s.run
WHERE s.model_id IS NOT NULL;

CREATE VIEW logged_model_artifacts AS
SELECT model_id, path, size_bytes, sha256, location, fold.at(appended_at_ms) AS logged_at
FROM fold.logged_model_artifacts;

CREATE VIEW model_inputs AS
SELECT r.run_id, i.model_id FROM fold.model_inputs i JOIN fold.runs r ON r.run = i.run;

CREATE VIEW model_outputs AS
SELECT r.run_id, o.model_id, o.step FROM fold.model_outputs o JOIN fold.runs r ON r.run = o.run;

CREATE VIEW dead_letters AS
SELECT
    stream, partition, "offset" AS log_offset, fold.at(appended_at_ms) AS appended_at, event_type, error,
    octet_length(payload) AS payload_bytes, hex(payload) AS payload_hex
FROM fold.dead_letters;

CREATE VIEW positions AS
SELECT
    stream, partition, next_offset, fold.at(last_appended_at_ms) AS last_appended_at, repeats
FROM fold.positions;

COMMENT ON VIEW runs IS 'One row for each run, including deleted ones.';
COMMENT ON COLUMN runs.run_id IS 'Id of the run.';
COMMENT ON COLUMN runs.experiment_id IS 'Id of its experiment. For a run that named its experiment: the one that had the name when the start was appended, or else the next one with it.';
COMMENT ON COLUMN runs.experiment_name IS 'Current name of that experiment.';
COMMENT ON COLUMN runs.name IS 'Display name.';
COMMENT ON COLUMN runs.status IS 'RUNNING, SCHEDULED, FINISHED, FAILED or KILLED.';
COMMENT ON COLUMN runs.start_time IS 'Start, by the clock of the producer.';
COMMENT ON COLUMN runs.end_time IS 'End, by the clock of the producer; for a run whose heart stopped, its last sign of life.';
COMMENT ON COLUMN runs.duration_s IS 'Seconds from start to end; NULL while it runs.';
COMMENT ON COLUMN runs."user" IS 'User that the run belongs to, by its own claim.';
COMMENT ON COLUMN runs.parent_run_id IS 'Run that this one is nested in.';
COMMENT ON COLUMN runs.message IS 'Why it ended, if not successfully.';
COMMENT ON COLUMN runs.deleted IS 'Whether it is deleted.';
COMMENT ON COLUMN runs.entry_point IS 'Script, module or notebook that was started.';
COMMENT ON COLUMN runs.git_commit IS 'Commit of the entry point''s repository.';
COMMENT ON COLUMN runs.git_branch IS 'Checked-out branch.';
COMMENT ON COLUMN runs.git_dirty IS 'Whether tracked files differed from the commit.';
COMMENT ON COLUMN runs.git_remote IS 'URL of the remote origin.';
COMMENT ON COLUMN runs.host IS 'Host on which it ran.';
COMMENT ON COLUMN runs.python_version IS 'Version of Python.';
COMMENT ON COLUMN runs.complete IS 'Whether everything logged so far is here: the start arrived, no event is missing, no point was dropped.';
COMMENT ON COLUMN runs.events_missing IS 'Gaps in the sequence numbers: events that were sent and are not in the log.';
COMMENT ON COLUMN runs.points_logged IS 'Number of metric points that the training code logged, as last reported by the producer.';
COMMENT ON COLUMN runs.points_dropped IS 'Number of those points that the producer could not keep.';
COMMENT ON COLUMN runs.points_stored IS 'Metric points that are here; a point that was logged twice counts once.';
COMMENT ON COLUMN runs.events_after_end IS 'Events that came after the end of the run; they are kept.';
COMMENT ON COLUMN runs.last_seen IS 'When the log took the run''s last event.';
COMMENT ON COLUMN runs.actor IS 'Who started it.';
COMMENT ON COLUMN runs.appended_at IS 'When the log took the start.';
COMMENT ON COLUMN runs.position IS 'Position of the start in the log: stream:partition:offset.';

COMMENT ON VIEW params IS 'Params of runs. The first value of a key is kept.';
COMMENT ON COLUMN params.run_id IS 'Id of the run.';
COMMENT ON COLUMN params.key IS 'Key.';
COMMENT ON COLUMN params.value IS 'Value, as text.';

COMMENT ON VIEW param_conflicts IS 'Values that were logged for a param that already had another value.';
COMMENT ON COLUMN param_conflicts.run_id IS 'Id of the run.';
COMMENT ON COLUMN param_conflicts.key IS 'Key of the param.';
COMMENT ON COLUMN param_conflicts.value IS 'The value that was kept.';
COMMENT ON COLUMN param_conflicts.refused_value IS 'The value that was refused.';
COMMENT ON COLUMN param_conflicts.appended_at IS 'When the log took it.';
COMMENT ON COLUMN param_conflicts.position IS 'Its position in the log.';

COMMENT ON VIEW tags IS 'Current tags of runs.';
COMMENT ON COLUMN tags.run_id IS 'Id of the run.';
COMMENT ON COLUMN tags.key IS 'Key.';
COMMENT ON COLUMN tags.value IS 'Value.';

COMMENT ON VIEW metrics IS 'Every metric point.';
COMMENT ON COLUMN metrics.run_id IS 'Id of the run.';
COMMENT ON COLUMN metrics.key IS 'Metric key.';
COMMENT ON COLUMN metrics.step IS 'Step.';
COMMENT ON COLUMN metrics."timestamp" IS 'When it was logged, by the clock of the producer.';
COMMENT ON COLUMN metrics.value IS 'Value; NaN and infinities are kept.';
COMMENT ON COLUMN metrics.model_id IS 'Logged model that it describes.';
COMMENT ON COLUMN metrics.dataset_name IS 'Dataset that it was computed on.';
COMMENT ON COLUMN metrics.dataset_digest IS 'Digest of that dataset.';

COMMENT ON VIEW latest_metrics IS 'The latest point of every metric of a run (the greatest by step, then timestamp, then value), and the extremes of all its points.';
COMMENT ON COLUMN latest_metrics.run_id IS 'Id of the run.';
COMMENT ON COLUMN latest_metrics.key IS 'Metric key.';
COMMENT ON COLUMN latest_metrics.step IS 'Step of the latest point.';
COMMENT ON COLUMN latest_metrics."timestamp" IS 'When it was logged, by the clock of the producer.';
COMMENT ON COLUMN latest_metrics.value IS 'Its value.';
COMMENT ON COLUMN latest_metrics.points IS 'Number of points of the metric.';
COMMENT ON COLUMN latest_metrics.min_value IS 'Least finite value of all points; NULL if every value is NaN or infinite.';
COMMENT ON COLUMN latest_metrics.max_value IS 'Greatest finite value of all points; NULL if every value is NaN or infinite.';
COMMENT ON COLUMN latest_metrics.model_id IS 'Logged model that it describes.';
COMMENT ON COLUMN latest_metrics.dataset_name IS 'Dataset that it was computed on.';
COMMENT ON COLUMN latest_metrics.dataset_digest IS 'Digest of that dataset.';

COMMENT ON VIEW datasets IS 'Datasets that runs used.';
COMMENT ON COLUMN datasets.run_id IS 'Id of the run.';
COMMENT ON COLUMN datasets.name IS 'Name.';
COMMENT ON COLUMN datasets.digest IS 'Digest of the content.';
COMMENT ON COLUMN datasets.source_type IS 'Kind of source.';
COMMENT ON COLUMN datasets.source IS 'Where it came from: a URI or a JSON description.';
COMMENT ON COLUMN datasets.schema IS 'JSON description of the columns.';
COMMENT ON COLUMN datasets.profile IS 'JSON summary.';
COMMENT ON COLUMN datasets.tags IS 'Tags of this use.';

COMMENT ON VIEW artifacts IS 'Artifacts of runs.';
COMMENT ON COLUMN artifacts.run_id IS 'Id of the run.';
COMMENT ON COLUMN artifacts.path IS 'Path within the run''s artifact folder.';
COMMENT ON COLUMN artifacts.size_bytes IS 'Size in bytes.';
COMMENT ON COLUMN artifacts.sha256 IS 'SHA-256 of the content, hexadecimal.';
COMMENT ON COLUMN artifacts.location IS 'URI of the bytes.';
COMMENT ON COLUMN artifacts.logged_at IS 'When the log took it.';

COMMENT ON VIEW packages IS 'Python packages installed in the environment of a run.';
COMMENT ON COLUMN packages.run_id IS 'Id of the run.';
COMMENT ON COLUMN packages.name IS 'Distribution.';
COMMENT ON COLUMN packages.version IS 'Its version.';

COMMENT ON VIEW registrations IS 'Model versions that training jobs requested, and the results.';
COMMENT ON COLUMN registrations.run_id IS 'Run that asked.';
COMMENT ON COLUMN registrations.model IS 'Registered model.';
COMMENT ON COLUMN registrations.source IS 'Where the model''s files are.';
COMMENT ON COLUMN registrations.actor IS 'Who asked.';
COMMENT ON COLUMN registrations.reason IS 'The reason that was given.';
COMMENT ON COLUMN registrations.accepted IS 'Whether the registry accepted it; NULL while no server has taken it over.';
COMMENT ON COLUMN registrations.code IS 'Error code of a refusal.';
COMMENT ON COLUMN registrations.message IS 'Message of a refusal.';
COMMENT ON COLUMN registrations.version IS 'Number of the created version.';
COMMENT ON COLUMN registrations.requested_at IS 'When the log took the request.';
COMMENT ON COLUMN registrations.decided_at IS 'When the registry decided.';
COMMENT ON COLUMN registrations.position IS 'Position of the request in the log.';

COMMENT ON VIEW logged_models IS 'Logged models, deleted ones included.';
COMMENT ON COLUMN logged_models.model_id IS 'Id of the logged model.';
COMMENT ON COLUMN logged_models.experiment_id IS 'Id of its experiment.';
COMMENT ON COLUMN logged_models.experiment_name IS 'Current name of that experiment.';
COMMENT ON COLUMN logged_models.name IS 'Name; not unique.';
COMMENT ON COLUMN logged_models.model_type IS 'Kind of model.';
COMMENT ON COLUMN logged_models.status IS 'PENDING, READY or FAILED.';
COMMENT ON COLUMN logged_models.status_message IS 'Why it has this status.';
COMMENT ON COLUMN logged_models.source_run_id IS 'Run that made it.';
COMMENT ON COLUMN logged_models.artifact_location IS 'URI of the folder of its files.';
COMMENT ON COLUMN logged_models.deleted IS 'Whether it is deleted.';
COMMENT ON COLUMN logged_models.created_at IS 'When the log took the event that created it; for one that was imported, when its tracker says that it was created.';
COMMENT ON COLUMN logged_models.updated_at IS 'When its status last changed, or when it was deleted.';
COMMENT ON COLUMN logged_models.created_by IS 'Who created it.';
COMMENT ON COLUMN logged_models.position IS 'Position of the event that created it.';

COMMENT ON VIEW logged_model_params IS 'Params of logged models. The first value of a key is kept.';
COMMENT ON COLUMN logged_model_params.model_id IS 'Id of the logged model.';
COMMENT ON COLUMN logged_model_params.key IS 'Key.';
COMMENT ON COLUMN logged_model_params.value IS 'Value, as text.';

COMMENT ON VIEW logged_model_tags IS 'Current tags of logged models.';
COMMENT ON COLUMN logged_model_tags.model_id IS 'Id of the logged model.';
COMMENT ON COLUMN logged_model_tags.key IS 'Key.';
COMMENT ON COLUMN logged_model_tags.value IS 'Value.';

COMMENT ON VIEW logged_model_metrics IS 'Every metric point that describes a logged model.';
COMMENT ON COLUMN logged_model_metrics.model_id IS 'Id of the logged model.';
COMMENT ON COLUMN logged_model_metrics.key IS 'Metric key.';
COMMENT ON COLUMN logged_model_metrics.step IS 'Step.';
COMMENT ON COLUMN logged_model_metrics."timestamp" IS 'When it was logged, by the clock of the producer.';
COMMENT ON COLUMN logged_model_metrics.value IS 'Value.';
COMMENT ON COLUMN logged_model_metrics.dataset_name IS 'Dataset that it was computed on.';
COMMENT ON COLUMN logged_model_metrics.dataset_digest IS 'Digest of that dataset.';
COMMENT ON COLUMN logged_model_metrics.run_id IS 'Run that logged it.';

COMMENT ON VIEW logged_model_artifacts IS 'Files of logged models.';
COMMENT ON COLUMN logged_model_artifacts.model_id IS 'Id of the logged model.';
COMMENT ON COLUMN logged_model_artifacts.path IS 'Path within the model''s artifact folder.';
COMMENT ON COLUMN logged_model_artifacts.size_bytes IS 'Size in bytes.';
COMMENT ON COLUMN logged_model_artifacts.sha256 IS 'SHA-256 of the content, hexadecimal.';
COMMENT ON COLUMN logged_model_artifacts.location IS 'URI of the bytes.';
COMMENT ON COLUMN logged_model_artifacts.logged_at IS 'When the log took it.';

COMMENT ON VIEW model_inputs IS 'Logged models that runs used.';
COMMENT ON COLUMN model_inputs.run_id IS 'Id of the run.';
COMMENT ON COLUMN model_inputs.model_id IS 'Id of the logged model.';

COMMENT ON VIEW model_outputs IS 'Logged models that runs made.';
COMMENT ON COLUMN model_outputs.run_id IS 'Id of the run.';
COMMENT ON COLUMN model_outputs.model_id IS 'Id of the logged model.';
COMMENT ON COLUMN model_outputs.step IS 'Step of the run at which it was made.';

COMMENT ON VIEW dead_letters IS 'Events that could not be decoded or applied. They had no effect.';
COMMENT ON COLUMN dead_letters.stream IS 'Stream.';
COMMENT ON COLUMN dead_letters.partition IS 'Partition.';
COMMENT ON COLUMN dead_letters.log_offset IS 'Offset.';
COMMENT ON COLUMN dead_letters.appended_at IS 'When the log took it.';
COMMENT ON COLUMN dead_letters.event_type IS 'Event type, if it is known.';
COMMENT ON COLUMN dead_letters.error IS 'The reason that was given.';
COMMENT ON COLUMN dead_letters.payload_bytes IS 'Size in bytes.';
COMMENT ON COLUMN dead_letters.payload_hex IS 'The bytes, hexadecimal.';

COMMENT ON VIEW positions IS 'How far each partition of the log is folded.';
COMMENT ON COLUMN positions.stream IS 'Stream.';
COMMENT ON COLUMN positions.partition IS 'Partition.';
COMMENT ON COLUMN positions.next_offset IS 'Offset of the next event to fold.';
COMMENT ON COLUMN positions.last_appended_at IS 'When the log took the last event that is folded.';
COMMENT ON COLUMN positions.repeats IS 'Repeated events, which had no second effect.';
