-- holders: What held the aliases, and the stages that serve, of models at an offset.
SELECT model, kind, name, version, since, set_by, verified, reason, from_offset FROM (
    SELECT
        n.value AS model, h.entity_id AS model_key,
        CASE WHEN h.entity = 'alias' THEN 'alias' ELSE 'stage' END AS kind,
        CASE WHEN h.entity = 'alias' THEN h.key ELSE h.value END AS name, h.version,
        fold.at(h.from_time_ms) AS since, h.actor AS set_by, h.actor_verified AS verified, h.reason,
        h.from_offset
    FROM fold.history h
    JOIN fold.history n ON n.entity = 'model' AND n.attribute = 'name' AND n.entity_id = h.entity_id
        AND fold.holds(n.from_offset, n.to_offset, $at)
    WHERE fold.holds(h.from_offset, h.to_offset, $at) AND (
        h.entity = 'alias'
        OR (h.entity = 'model_version' AND h.attribute = 'stage' AND list_contains($stages, h.value))
    )
) WHERE {readable} ORDER BY model, kind, name, version LIMIT $limit

-- silent: Runs that were last heard of in a span of time, and had not ended by themselves.
SELECT run_id, name, experiment_id, experiment_name, "user", status, last_seen FROM (
    SELECT
        r.run_id, r.name, coalesce(r.experiment_id, n.experiment_id) AS experiment_id,
        coalesce(e.name, r.experiment_name) AS experiment_name, r."user", r.status,
        fold.at(a.last_seen_ms) AS last_seen
    FROM {tables} JOIN fold.activity a ON a.run = r.run
    WHERE a.last_seen_ms BETWEEN $since AND $at AND NOT r.deleted AND (
        r.heart_stopped OR (
            r.status = 'RUNNING' AND r.heartbeat_interval_ms IS NOT NULL
            AND a.last_seen_ms < $at - 3 * r.heartbeat_interval_ms
        )
    )
) WHERE {readable} ORDER BY last_seen DESC LIMIT $limit
