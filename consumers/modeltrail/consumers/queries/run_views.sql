-- search_metric: The latest value of a metric of each run, of all models and datasets.
SELECT run_id AS id, arg_max(value, (step, "timestamp", value)) AS value
FROM latest_metrics WHERE key = ? GROUP BY run_id

-- search_metric_min: The least finite value of a metric of each run.
SELECT run_id AS id, min(min_value) AS value FROM latest_metrics WHERE key = ? GROUP BY run_id

-- search_metric_max: The greatest finite value of a metric of each run.
SELECT run_id AS id, max(max_value) AS value FROM latest_metrics WHERE key = ? GROUP BY run_id

-- search_metric_points: The number of points of a metric of each run.
SELECT run_id AS id, sum(points)::BIGINT AS value FROM latest_metrics WHERE key = ? GROUP BY run_id

-- search_param: A param of each run.
SELECT run_id AS id, value FROM params WHERE key = ?

-- search_tag: A tag of each run.
SELECT run_id AS id, value FROM tags WHERE key = ?

-- search_name: The name of each run that has one.
SELECT run_id AS id, name AS value FROM runs WHERE name <> ''

-- search_column: A tag that is a column for runs that Modeltrail's producers recorded.
SELECT run_id AS id, value FROM tags WHERE key = '{key}'
UNION ALL
SELECT run_id AS id, {column} AS value FROM runs
WHERE python_version IS NOT NULL AND {column} <> ''
AND run_id NOT IN (SELECT run_id FROM tags WHERE key = '{key}')

-- search_dataset: A column of the datasets of each run.
SELECT run_id AS id, {value} AS value FROM datasets
