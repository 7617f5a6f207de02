-- at: Saved views at an offset that a user sees, with who last changed them.
SELECT * FROM (
    SELECT
        v.view_id::BIGINT AS view_id, v.name, v.experiment_id, v.shared, v.owner, h.page, h.query,
        h.description, fold.at(v.created_at_ms) AS created_at, h.updated_at, h.updated_by, h.reason
    FROM fold.views v JOIN (
        SELECT
            entity_id, any_value(value) FILTER (attribute = 'page') AS page,
            any_value(value) FILTER (attribute = 'query') AS query,
            any_value(value) FILTER (attribute = 'description') AS description,
            fold.at(max(from_time_ms)) AS updated_at, arg_max(actor, from_offset) AS updated_by,
            first(reason ORDER BY from_offset DESC) AS reason
        FROM fold.history
        WHERE entity = 'view' AND fold.holds(from_offset, to_offset, $at)
        GROUP BY entity_id
    ) h ON h.entity_id = v.view_id
)
WHERE CASE
        WHEN NOT shared THEN owner = $owner
        WHEN experiment_id IS NULL THEN true
        ELSE {readable} END
    AND ($experiment_id IS NULL OR experiment_id = $experiment_id) AND ($page IS NULL OR page = $page)
ORDER BY shared DESC, name, view_id LIMIT $limit

-- history: What saved views have shown, oldest first.
SELECT
    entity_id::BIGINT AS view_id, attribute, value, fold.at(from_time_ms) AS valid_from, fold.at(to_time_ms) AS valid_to,
    from_offset, to_offset, actor AS set_by, actor_verified AS verified, reason
FROM fold.history
WHERE entity = 'view' AND entity_id IN (SELECT unnest(?::VARCHAR[]))
    AND attribute IN ('page', 'query', 'description')
ORDER BY from_offset, attribute
