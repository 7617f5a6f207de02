-- changes: What differs between the registry right after two offsets, of what the caller may read.
-- An interval that began and ended within them changes nothing, but its events are listed.
SELECT * FROM (
    SELECT
        t.entity, CASE WHEN t.entity = 'experiment' THEN t.entity_id END AS experiment_id,
        e.name AS experiment_name, n.name AS model, t.version, t.attribute, t.key,
        any_value(t.value) FILTER (t.from_offset <= $after) AS before,
        any_value(t.value) FILTER (t.to_offset IS NULL OR t.to_offset > $at) AS after,
        list_concat(
            coalesce(list(t.from_offset) FILTER (t.from_offset > $after), []),
            coalesce(list(t.to_offset) FILTER (t.to_offset <= $at), [])
        ) AS offsets,
        CASE WHEN t.entity <> 'experiment' THEN t.entity_id END AS model_key
    FROM (
        SELECT * REPLACE (CASE WHEN entity = 'alias' THEN NULL ELSE version END AS version)
        FROM fold.history
        WHERE attribute <> 'updated' AND entity IN ('experiment', 'model', 'model_version', 'alias')
            AND from_offset <= $at AND (to_offset IS NULL OR to_offset > $after)
            AND (from_offset > $after OR to_offset <= $at)
    ) t
    LEFT JOIN fold.experiments e ON t.entity = 'experiment' AND e.experiment_id = t.entity_id
    LEFT JOIN (
        SELECT entity_id, arg_max(value, from_offset) AS name FROM fold.history
        WHERE entity = 'model' AND attribute = 'name' AND from_offset <= $at GROUP BY entity_id
    ) n ON t.entity <> 'experiment' AND n.entity_id = t.entity_id
    GROUP BY t.entity, t.entity_id, e.name, n.name, t.version, t.attribute, t.key
    HAVING before IS DISTINCT FROM after
) WHERE {visible}
ORDER BY model NULLS FIRST, experiment_name, entity = 'alias' DESC, version DESC, attribute, key
LIMIT $limit

-- events: Requests at some offsets, in short.
SELECT
    "offset" AS log_offset, fold.at(appended_at_ms) AS appended_at, type, actor,
    actor_verified AS verified, reason
FROM fold.requests WHERE "offset" IN (SELECT unnest(?::BIGINT[])) ORDER BY "offset"

-- model: The key of the model that had a name at an offset.
SELECT model_key FROM (
    SELECT entity_id AS model_key FROM fold.history
    WHERE entity = 'model' AND attribute = 'name' AND value = ?
        AND from_offset <= ? AND (to_offset IS NULL OR to_offset > ?)
) WHERE {readable}

-- intervals: Intervals of a model's aliases and stages that hold within a span of offsets. Those that
-- ended later are still open at its end.
SELECT
    entity, key, value, version, fold.at(from_time_ms) AS valid_from,
    CASE WHEN to_offset <= $at THEN fold.at(to_time_ms) END AS valid_to, from_offset,
    CASE WHEN to_offset <= $at THEN to_offset END AS to_offset, actor AS set_by,
    actor_verified AS verified, reason, from_event_id AS event_id
FROM fold.history
WHERE entity_id = $key AND (entity = 'alias' OR (entity = 'model_version' AND attribute = 'stage'))
    AND from_offset <= $at AND (to_offset IS NULL OR to_offset > $after)
ORDER BY from_offset, version LIMIT $limit

-- refused: Some of the refused requests about a model up to an offset, newest first.
SELECT
    "offset" AS log_offset, fold.at(appended_at_ms) AS appended_at, type, actor,
    actor_verified AS verified, alias, request->>'stage' AS stage, version,
    request->>'expected_version' AS expected_version, request->>'expected_stage' AS expected_stage,
    code, message, reason
FROM fold.requests
WHERE model_key = $key AND accepted = false AND "offset" <= $at AND {which}
ORDER BY "offset" DESC LIMIT $limit

-- request: The request at an offset.
SELECT type, version, alias, fold.at(appended_at_ms), request, lower(hex(hash))
FROM fold.requests WHERE "offset" = ?

-- version: Where a version of a model comes from.
SELECT source, run_id, model_id, run_link, fold.at(created_at_ms) AS created_at, created_by
FROM fold.model_versions WHERE model_key = ? AND version = ?

-- before: What held an alias or a stage of a model before an offset.
SELECT
    version, fold.at(from_time_ms) AS since, fold.at(to_time_ms) AS until, from_offset, to_offset
FROM fold.history
WHERE entity_id = $key AND to_offset <= $at AND CASE $kind
    WHEN 'alias' THEN entity = 'alias' AND key = $name
    ELSE entity = 'model_version' AND attribute = 'stage' AND value = $name END
ORDER BY to_offset DESC, from_offset DESC LIMIT 1

-- run: A run, for a version that was made from it.
SELECT
    r.run_id, coalesce(r.experiment_id, n.experiment_id, r.experiment_derived_id) AS experiment_id,
    coalesce(e.name, r.experiment_name) AS experiment_name, r.name, r.status,
    fold.at(r.started_at_ms) AS start_time, fold.at(r.ended_at_ms) AS end_time,
    (r.ended_at_ms - r.started_at_ms) / 1000 AS duration_s, r."user", r.deleted, r.entry_point,
    r.git_commit, r.git_branch, r.git_dirty, r.git_remote, r.parent_run_id,
    a.events_missing, a.points_dropped
FROM (SELECT * FROM fold.runs WHERE run_id = ?) r
JOIN fold.activity a ON a.run = r.run
LEFT JOIN fold.experiment_names n
    ON r.experiment_id IS NULL AND n.name = r.experiment_name
    AND r.appended_at_ms >= n.from_ms AND r.appended_at_ms < n.to_ms
LEFT JOIN fold.experiments e
    ON e.experiment_id = coalesce(r.experiment_id, n.experiment_id, r.experiment_derived_id)

-- of_version: Intervals of everything about a version, its aliases included, up to an offset.
SELECT
    entity, attribute, key, value, version, fold.at(from_time_ms) AS valid_from,
    CASE WHEN to_offset <= $at THEN fold.at(to_time_ms) END AS valid_to, from_offset,
    CASE WHEN to_offset <= $at THEN to_offset END AS to_offset, actor AS set_by,
    actor_verified AS verified, reason
FROM fold.history
WHERE entity_id = $key AND entity IN ('model_version', 'alias') AND version = $version
    AND attribute <> 'updated' AND from_offset <= $at
ORDER BY from_offset, attribute, key LIMIT $limit

-- run_of_version: The run of a version.
SELECT run_id FROM fold.model_versions WHERE model_key = ? AND version = ?

-- siblings: Other versions that were made from a run.
SELECT model, version FROM (
    SELECT m.model, v.version, v.model_key
    FROM fold.model_versions v JOIN fold.models m ON m.model_key = v.model_key
    WHERE v.run_id = $run_id AND NOT v.deleted AND NOT m.deleted
        AND NOT (v.model_key = $key AND v.version = $version)
) WHERE {readable} ORDER BY model, version LIMIT $limit

-- latest_of_run: The latest values of some metrics of a run.
SELECT key, arg_max(value, (step, timestamp_ms, value))
FROM fold.series s
WHERE s.run = (SELECT run FROM fold.runs WHERE run_id = ?) AND key IN (SELECT unnest(?::VARCHAR[]))
GROUP BY key

-- versions_at: Versions of a model at an offset, with their stages.
SELECT v.version, fold.at(v.created_at_ms) AS created_at, v.created_by, v.run_id, h.value AS stage
FROM fold.model_versions v
JOIN fold.history h ON h.entity = 'model_version' AND h.attribute = 'stage'
    AND h.entity_id = v.model_key AND h.version = v.version
    AND fold.holds(h.from_offset, h.to_offset, $at)
WHERE v.model_key = $key AND h.entity_id = $key
ORDER BY v.version DESC LIMIT $limit

-- metric_keys: The metrics that some runs have, with the number of runs, most common first.
SELECT s.key, count(DISTINCT s.run) AS runs
FROM fold.series s JOIN fold.runs r ON r.run = s.run
WHERE r.run_id IN (SELECT unnest(?::VARCHAR[]))
GROUP BY s.key ORDER BY runs DESC, s.key LIMIT ?

-- metric: The latest value of a metric of some runs.
SELECT r.run_id, arg_max(s.value, (s.step, s.timestamp_ms, s.value)) AS value
FROM fold.series s JOIN fold.runs r ON r.run = s.run
WHERE s.key = ? AND r.run_id IN (SELECT unnest(?::VARCHAR[]))
GROUP BY r.run_id

-- faster: The request that made the state that a refused one, at an offset, did not expect.
WITH refused AS (SELECT * FROM fold.requests WHERE "offset" = ?),
changed AS (
    SELECT max(CASE WHEN h.to_offset <= r."offset" THEN h.to_offset ELSE h.from_offset END) AS at
    FROM fold.history h JOIN refused r ON h.entity_id = r.model_key
    WHERE h.from_offset <= r."offset" AND CASE r.entity
        WHEN 'alias' THEN h.entity = 'alias' AND h.key = r.alias
        ELSE h.entity = 'model_version' AND h.attribute = 'stage' AND h.version = r.version END
)
SELECT
    q."offset" AS log_offset, fold.at(q.appended_at_ms) AS appended_at, q.type, q.actor,
    q.actor_verified AS verified, q.reason, q.alias, q.version, q.request->>'stage' AS stage,
    r.appended_at_ms - q.appended_at_ms AS by_ms, r."offset" - q."offset" AS by_offsets
FROM fold.requests q JOIN changed c ON q."offset" = c.at CROSS JOIN refused r

-- blame: What holds of a model, its versions and aliases at an offset, who set it, and what was
-- there before.
SELECT * EXCLUDE (to_offset) FROM (
    SELECT
        entity, version, attribute, key, value, fold.at(from_time_ms) AS set_at, actor AS set_by,
        actor_verified AS verified, reason, from_offset, to_offset,
        lag(value) OVER (
            PARTITION BY entity, CASE WHEN entity = 'alias' THEN NULL ELSE version END, attribute, key
            ORDER BY from_offset
        ) AS before
    FROM fold.history
    WHERE entity_id = $key AND entity IN ('model', 'model_version', 'alias')
        AND attribute <> 'updated' AND from_offset <= $at
) WHERE to_offset IS NULL OR to_offset > $at
