-- now: Runs as they are, in the tables below.
fold.runs r

-- then: Runs as they were at a moment: those of which an event had been appended.
(
    SELECT r.* REPLACE (
        c.name AS name, c.status AS status, c.ended_at_ms AS ended_at_ms, c.message AS message,
        c.deleted AS deleted)
    FROM fold.runs r
    JOIN fold.run_changes c ON c.run = r.run
    JOIN (
        SELECT run, max("offset") AS "offset" FROM fold.run_changes l WHERE {before} GROUP BY run
    ) last ON last.run = c.run AND last."offset" = c."offset"
) r

-- places: Where the events of some runs are that had been appended at a moment.
SELECT l.partition, l."offset" FROM fold.links l
WHERE l.run {runs} AND {before} ORDER BY l.partition, l."offset"

-- events: A page of the places of a run's events, newest first.
SELECT l.partition, l."offset", l.appended_at_ms, d.error
FROM fold.links l LEFT JOIN fold.dead_letters d
    ON d.stream = 'runs' AND d.partition = l.partition AND d."offset" = l."offset"
WHERE l.run = $run AND ($at IS NULL OR (l.appended_at_ms, l.partition, l."offset") < ($at, $partition, $offset))
ORDER BY l.appended_at_ms DESC, l.partition DESC, l."offset" DESC LIMIT $limit

-- appended: When an event was appended.
SELECT appended_at_ms FROM fold.links WHERE partition = ? AND "offset" = ?

-- numbers: The numbers of runs, by their ids.
SELECT run_id, run FROM fold.runs WHERE run_id IN (SELECT unnest(?::VARCHAR[]))

-- has_children: Whether a run is the parent of another.
SELECT 1 FROM fold.runs WHERE parent_run_id = ? LIMIT 1

-- ids: The ids of some runs, by their numbers.
SELECT run, run_id FROM fold.runs WHERE run {runs}

-- last_event: The last event of a run up to a moment.
SELECT 'runs:' || l.partition || ':' || l."offset" FROM fold.links l
WHERE l.run = ? AND {before} ORDER BY l.appended_at_ms DESC, l."offset" DESC LIMIT 1

-- gaps: The producers of a run, and their gaps.
SELECT producer_id, actor, last_sequence, gaps FROM fold.producers
WHERE subject = 'run/' || ? AND octet_length(gaps) > 0 ORDER BY first_offset, producer_id

-- from_runs: Runs r with their experiments e. A run that names its experiment belongs to the one
-- that had the name then; n is the history of names.
fold.runs r
LEFT JOIN fold.experiment_names n
    ON r.experiment_id IS NULL AND n.name = r.experiment_name
    AND r.appended_at_ms >= n.from_ms AND r.appended_at_ms < n.to_ms
LEFT JOIN fold.experiments e
    ON e.experiment_id = coalesce(r.experiment_id, n.experiment_id, r.experiment_derived_id)

-- from_runs_by_id: The same if every run has its experiment's id, which is quicker to plan.
fold.runs r
LEFT JOIN (SELECT NULL::VARCHAR AS experiment_id WHERE FALSE) n ON FALSE
LEFT JOIN fold.experiments e ON e.experiment_id = r.experiment_id

-- any_by_name: Whether any run names its experiment instead of giving the id.
SELECT 1 FROM fold.runs WHERE experiment_id IS NULL LIMIT 1

-- exists: Whether a run exists.
SELECT 1 FROM fold.runs WHERE run_id = ?

-- number: The number of a run in the other tables, and its partition.
SELECT run, partition FROM fold.runs WHERE run_id = ?

-- position: How far a partition of runs is folded, as a position.
SELECT 'runs:' || partition || ':' || (next_offset - 1) FROM fold.positions
WHERE stream = 'runs' AND partition = ?

-- experiment: Id of a run's experiment.
SELECT experiment_id FROM fold.runs WHERE run_id = ?

-- access: What the rights to a run depend on. An experiment id that is derived from a name is left
-- out: if no experiment has the name now, the id may be that of an experiment that gave the name up,
-- and the next experiment of that name gets another id.
SELECT coalesce(r.experiment_id, n.experiment_id), r.experiment_name, r.actor
FROM fold.runs r LEFT JOIN fold.experiment_names n
    ON r.experiment_id IS NULL AND n.name = r.experiment_name
    AND r.appended_at_ms >= n.from_ms AND r.appended_at_ms < n.to_ms
WHERE r.run_id = ? AND r.started

-- user: The user of a run.
SELECT coalesce("user", '') FROM fold.runs WHERE run_id = ?

-- params: The params of a run.
SELECT p.key, p.value FROM fold.params p JOIN fold.runs r ON r.run = p.run WHERE r.run_id = ?

-- tag: The value of a run's tag.
SELECT t.value FROM fold.tags t JOIN fold.runs r ON r.run = t.run WHERE r.run_id = ? AND t.key = ?

-- metrics: The latest values of a run's metrics.
SELECT key, value FROM fold.series WHERE run = ?
ORDER BY key, dataset_name, dataset_digest, model_id LIMIT ?

-- newest: A page of the newest runs. The page is a small part of the matches, so the rest is cut
-- off: runs mostly come in the order of their start, and a top-n would replace its rows again and
-- again.
WITH found AS MATERIALIZED (SELECT r.run, r.started_at_ms AS start {tables})
SELECT f.run FROM found f JOIN fold.runs r ON r.run = f.run
WHERE f.start >= (SELECT list_min(max(start, {n})) FROM found)
ORDER BY f.start DESC, r.run_id {page}

-- search_metric: The latest value of a metric of each run, of all models and datasets.
SELECT run AS id, arg_max(value, (step, timestamp_ms, value)) AS value
FROM fold.series WHERE key = ? GROUP BY run

-- search_plain_metric: The same if no run has metrics by model or dataset.
SELECT run AS id, value FROM fold.series WHERE key = ?

-- search_metric_points: The number of points of a metric of each run.
SELECT run AS id, sum(points)::BIGINT AS value FROM fold.series WHERE key = ? GROUP BY run

-- search_metric_min: The least finite value of a metric of each run.
SELECT run AS id, min(min_value) AS value FROM fold.series WHERE key = ? GROUP BY run

-- search_metric_max: The greatest finite value of a metric of each run.
SELECT run AS id, max(max_value) AS value FROM fold.series WHERE key = ? GROUP BY run

-- has_several: Whether a run has metrics of these keys by model or dataset.
SELECT 1 FROM fold.series WHERE list_contains(?::VARCHAR[], key)
AND (model_id IS NOT NULL OR dataset_name IS NOT NULL OR dataset_digest IS NOT NULL) LIMIT 1

-- search_param: A param of each run.
SELECT run AS id, value FROM fold.params WHERE key = ?

-- search_tag: A tag of each run.
SELECT run AS id, value FROM fold.tags WHERE key = ?

-- search_name: The name of each run that has one.
SELECT run AS id, name AS value FROM fold.runs WHERE name <> ''

-- search_column: A tag that is a column for runs that Modeltrail's producers recorded.
SELECT run AS id, value FROM fold.tags WHERE key = '{key}'
UNION ALL
SELECT r.run AS id, r.{column} AS value FROM fold.runs r
WHERE {recorded} AND r.{column} <> '' AND r.run NOT IN (SELECT run FROM fold.tags WHERE key = '{key}')

-- search_dataset: A column of the datasets of each run.
SELECT run AS id, {value} AS value FROM fold.datasets

-- activity: Joins what changes with every batch of a running run.
JOIN fold.activity a ON a.run = r.run

-- found: Numbers of the runs that a query finds, in order, and how many there are.
WITH found AS MATERIALIZED (SELECT r.run AS id, r.run_id, {terms} FROM {tables} WHERE {where})
SELECT id, (SELECT count(*) FROM found) FROM found ORDER BY {order} LIMIT {limit} OFFSET {offset}

-- count: How many runs a query finds.
SELECT count(*) FROM {tables} WHERE {where}

-- groups: Groups of runs, in order, with how many groups and runs there are.
WITH grouped AS MATERIALIZED ({groups})
SELECT *, (SELECT count(*) FROM grouped), (SELECT sum("runs")::BIGINT FROM grouped)
FROM grouped ORDER BY {order} LIMIT {limit} OFFSET {offset}

-- count_groups: How many groups and runs a query finds.
SELECT count(*), coalesce(sum("runs"), 0)::BIGINT FROM ({groups})

-- values: The most frequent values of a column of the runs that a query finds.
SELECT {value} AS value, count(*) AS runs FROM {tables} WHERE {where}
GROUP BY 1 ORDER BY runs DESC, value NULLS LAST LIMIT {limit}

-- param_keys: Keys of the params of the runs that a query finds, with the number of runs.
SELECT key, count(*) AS runs FROM fold.params
WHERE run IN (SELECT r.run FROM {tables} WHERE {where}) GROUP BY key

-- tag_keys: Keys of the tags.
SELECT key, count(*) AS runs FROM fold.tags
WHERE run IN (SELECT r.run FROM {tables} WHERE {where}) GROUP BY key

-- metric_keys: Keys of the metrics.
SELECT key, count(DISTINCT run) AS runs FROM fold.series
WHERE run IN (SELECT r.run FROM {tables} WHERE {where}) GROUP BY key

-- metric_keys_once: The same if no run has metrics by model or dataset.
SELECT key, count(*) AS runs FROM fold.series
WHERE run IN (SELECT r.run FROM {tables} WHERE {where}) GROUP BY key

-- any_several: Whether any metric is by model or dataset.
SELECT 1 FROM fold.series
WHERE model_id IS NOT NULL OR dataset_name IS NOT NULL OR dataset_digest IS NOT NULL LIMIT 1

-- shown: Columns of some runs.
SELECT r.run, {columns} FROM {tables} WHERE r.run {runs}

-- shown_params: Some params of some runs.
SELECT run, key, value FROM fold.params WHERE run {runs} AND list_contains(?::VARCHAR[], key)

-- shown_tags: Some tags of some runs.
SELECT run, key, value FROM fold.tags WHERE run {runs} AND list_contains(?::VARCHAR[], key)

-- shown_metrics: Some metrics of some runs, of all models and datasets.
SELECT run, key, arg_max(value, (step, timestamp_ms, value)), min(min_value), max(max_value),
    sum(points)::BIGINT
FROM fold.series WHERE run {runs} AND list_contains(?::VARCHAR[], key) GROUP BY run, key

-- positions: How far the streams are folded.
SELECT stream, partition, next_offset FROM fold.positions ORDER BY stream, partition

-- params_of: Params of some runs, given by their numbers.
SELECT run, key, value FROM fold.params WHERE run {runs}

-- tags_of: Tags of some runs.
SELECT run, key, value FROM fold.tags WHERE run {runs}

-- series_of: The latest points of the metrics of some runs.
SELECT run, key, step, timestamp_ms, value FROM fold.series WHERE run {runs}

-- datasets_of: Dataset inputs of some runs.
SELECT run, name, digest, source_type, source, schema, profile, tags FROM fold.datasets
WHERE run {runs}

-- model_inputs_of: Logged models that some runs used.
SELECT run, model_id FROM fold.model_inputs WHERE run {runs}

-- model_outputs_of: Logged models that some runs made.
SELECT run, model_id, step FROM fold.model_outputs WHERE run {runs}

-- datasets_in: The datasets of the runs in some experiments.
SELECT DISTINCT {experiment_id} AS experiment_id, d.name, d.digest,
    d.tags['mlflow.data.context'] AS context
FROM {tables} JOIN fold.datasets d ON d.run = r.run
WHERE {experiment_id} IN (SELECT unnest(?::VARCHAR[]))
ORDER BY ALL LIMIT {limit}

-- series: For each existing run, the numbers of a metric's series.
SELECT r.run_id, list(s.series ORDER BY s.series) FILTER (s.series IS NOT NULL)
FROM fold.runs r LEFT JOIN fold.series s ON s.run = r.run AND s.key = ?
WHERE r.run_id IN ({run_ids}) GROUP BY r.run_id

-- points: A page of the points of series.
SELECT {distinct} timestamp_ms, step, value FROM fold.points
WHERE series IN ({series}) AND {after} ORDER BY timestamp_ms, step, value {page}

-- placed_points: The points of several runs, each with its run's place. With the list beside the
-- join, the database reads only the parts with these series.
(
    SELECT DISTINCT place, timestamp_ms, step, value
    FROM fold.points p JOIN (VALUES {rows}) AS wanted (series, place) ON p.series = wanted.series
    WHERE p.series IN ({series})
)

-- producers: Subjects and actors of producers, newest first.
SELECT p.producer_id, p.subject, p.actor FROM fold.producers p
SEMI JOIN wanted w ON p.producer_id = w.id ORDER BY p.first_offset DESC

-- readable: Which of some runs are in experiments that the caller may read. As in access, a derived
-- experiment id is left out.
SELECT run_id FROM (
    SELECT r.run_id, coalesce(r.experiment_id, n.experiment_id) AS experiment_id
    FROM {tables} WHERE r.run_id IN (SELECT unnest(?::VARCHAR[])) AND r.started
) WHERE {readable}
