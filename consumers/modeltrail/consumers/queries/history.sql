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
