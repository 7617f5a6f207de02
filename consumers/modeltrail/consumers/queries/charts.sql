-- series: The series of runs with one of these keys, or with any key that begins or does not begin
-- with a prefix.
SELECT
    s.series, r.run_id, s.key, s.model_id, s.dataset_name, s.dataset_digest, s.points, s.min_value,
    s.max_value, s.min_step, s.step, s.min_time_ms, s.max_time_ms, r.status, r.started_at_ms,
    r.ended_at_ms IS NOT NULL AS ended, a.events_missing
FROM (SELECT unnest(?::VARCHAR[]) AS run_id, generate_subscripts(?::VARCHAR[], 1) AS place) wanted
JOIN fold.runs r ON r.run_id = wanted.run_id
JOIN fold.activity a ON a.run = r.run
JOIN fold.series s ON s.run = r.run
WHERE {keys}
ORDER BY wanted.place, s.key, s.model_id NULLS FIRST, s.dataset_name NULLS FIRST, s.dataset_digest
LIMIT ?

-- numbers: The numbers of runs in the other tables.
SELECT run FROM fold.runs WHERE run_id IN (SELECT unnest(?::VARCHAR[]))

-- end_row: The first row of the points that are in no block.
SELECT coalesce(max(end_row), 0) FROM fold.blocks

-- rest: The points of series in no block, with their rows.
SELECT p.series, p.step, p.timestamp_ms, p.value, p.rowid AS row
FROM fold.points p SEMI JOIN wanted w ON w.series = p.series WHERE p.rowid >= {end_row}

-- about: What all blocks of some series have in common: the widest cells, whether steps are in order, and
-- whether all values are finite.
SELECT
    coalesce(max(b.{x}_level), 0), coalesce(bool_or(b.late), FALSE),
    coalesce(max(b.nan + b.pos_inf + b.neg_inf), 0) = 0
FROM fold.blocks b SEMI JOIN wanted w ON w.series = b.series

-- reached: The greatest step of the blocks of each series.
SELECT b.series, max(b.step_max) AS step_max
FROM fold.blocks b SEMI JOIN wanted w ON w.series = b.series GROUP BY b.series

-- coarse: The blocks within these bounds that do not fit into one bucket, by series and chunk. All
-- blocks of such a series in the chunk are left to its points.
SELECT b.series, b.first_row, any_value(b.end_row) AS end_row, sum(b.n)::BIGINT AS points
FROM fold.blocks b JOIN wanted w
    ON w.series = b.series AND b.{x}_max >= w.low AND b.{x}_min <= w.high
GROUP BY b.series, b.first_row
HAVING bool_or(b.{x}_min >> {level} <> b.{x}_max >> {level})

-- points: The points of series in some rows, with their rows.
SELECT p.series, p.step, p.timestamp_ms, p.value, p.rowid AS row
FROM fold.points p JOIN wanted w
    ON w.series = p.series AND p.{x} BETWEEN w.low AND w.high
WHERE p.rowid >= {first_row} AND p.rowid < {end_row}

-- buckets: The buckets of series, from their blocks and from summaries of their other points.
SELECT
    series, cell, min(lo) AS lo, max(hi) AS hi, arg_min(first, {first}) AS first,
    arg_max(last, {last}) AS last, sum(sum) AS sum, sum(n)::INTEGER AS n, {others}
FROM (
    SELECT
        w.place AS series, b.{x}_min >> {level} AS cell, b.lo, b.hi, b.first, b.last, b.sum, b.n, b.nan,
        b.pos_inf, b.neg_inf, b.step_min, b.step_max, b.first_time, b.last_time
    FROM fold.blocks b JOIN wanted w
        ON w.series = b.series AND b.{x}_min BETWEEN w.low AND w.high
    {fine}
    UNION ALL BY NAME
    SELECT
        series, cell, lo, hi, first, last, sum, n, nan, pos_inf, neg_inf, step_min, step_max,
        first_time, last_time
    FROM summarized
)
GROUP BY series, cell

-- others: The counts of values that are not finite.
sum(nan)::INTEGER AS nan, sum(pos_inf)::INTEGER AS pos_inf, sum(neg_inf)::INTEGER AS neg_inf

-- no_others: The same if all values are finite.
0::INTEGER AS nan, 0::INTEGER AS pos_inf, 0::INTEGER AS neg_inf

-- not_coarse: Leaves out the blocks that the points replace.
ANTI JOIN coarse c ON c.series = b.series AND c.first_row = b.first_row

-- against: The points of series with the value of another series at the same step as x.
SELECT y.series, y.step, y.timestamp_ms, y.value, x.value AS x
FROM fold.points y
JOIN wanted w ON w.series = y.series
JOIN (
    SELECT p.series, p.step, arg_max(p.value, (p.timestamp_ms, p.value)) AS value
    FROM fold.points p SEMI JOIN wanted w ON w.other = p.series GROUP BY p.series, p.step
) x ON x.series = w.other AND x.step = y.step

-- around: The points of a series before and after each of some times.
SELECT
    w.series, w.after_ms, arg_max(p.{x}, (p.step, p.timestamp_ms)) FILTER (p.timestamp_ms <= w.after_ms),
    arg_min(p.{x}, (p.step, p.timestamp_ms)) FILTER (p.timestamp_ms > w.after_ms)
FROM fold.points p JOIN wanted w ON w.series = p.series GROUP BY w.series, w.after_ms

-- gaps: The gaps of the producers of runs.
SELECT p.subject, p.gaps FROM fold.producers p
WHERE p.subject IN (SELECT 'run/' || unnest(?::VARCHAR[])) AND octet_length(p.gaps) > 0
