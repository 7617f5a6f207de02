-- span: Number, offsets and times of the requests in a span of time that the caller may read.
SELECT count(*), min("offset"), max("offset"), min(appended_at_ms), max(appended_at_ms)
FROM fold.requests
WHERE ($first IS NULL OR appended_at_ms >= $first) AND ($last IS NULL OR appended_at_ms <= $last)
    AND {visible}

-- buckets: The same by equal parts of the span, with the refused ones. Append times may be equal.
SELECT
    (appended_at_ms - $begin) // $width AS bucket, count(*), count(*) FILTER (accepted = false),
    min("offset"), max("offset")
FROM fold.requests
WHERE ($first IS NULL OR appended_at_ms >= $first) AND ($last IS NULL OR appended_at_ms <= $last)
    AND {visible}
GROUP BY bucket ORDER BY bucket

-- time: When the request at an offset was appended.
SELECT appended_at_ms FROM fold.requests WHERE "offset" = ?

-- near: The first request after, or the last before, a moment.
SELECT
    "offset" AS log_offset, fold.at(appended_at_ms) AS appended_at, type, actor,
    actor_verified AS verified, entity, experiment_id, model, version, alias, accepted, code
FROM fold.requests WHERE {where} ORDER BY "offset" {order} LIMIT 1

-- last_append: When the last folded event of any stream was appended.
SELECT max(last_appended_at_ms) FROM fold.positions WHERE next_offset > 0
