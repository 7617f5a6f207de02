-- experiment: Id of a logged model's experiment.
SELECT experiment_id FROM fold.logged_models WHERE model_id = ?

-- user: The user who created a logged model.
SELECT actor FROM fold.logged_models WHERE model_id = ?

-- run: The run that made a logged model; no row if the model is deleted.
SELECT source_run_id FROM fold.logged_models WHERE model_id = ? AND NOT deleted

-- location: Where the files of a logged model are.
SELECT artifact_location FROM fold.logged_models WHERE model_id = ?

-- location_by_run: Where the files are of the newest logged model with a name that a run made in
-- its own experiment.
SELECT artifact_location FROM fold.logged_models
WHERE source_run_id = $run AND name = $name
AND experiment_id = (SELECT experiment_id FROM runs WHERE run_id = $run)
AND NOT deleted ORDER BY created_at_ms DESC LIMIT 1

-- tag: The value of a tag.
SELECT value FROM fold.logged_model_tags WHERE model_id = ? AND key = ?

-- models: Logged models that a search finds.
SELECT l.model_id, l.experiment_id, l.name, l.created_at_ms, l.updated_at_ms, l.artifact_location,
    l.status, l.model_type, l.status_message, l.source_run_id
FROM fold.logged_models l {rest}

-- tags_of: Tags of some logged models.
SELECT model_id, key, value FROM fold.logged_model_tags WHERE model_id IN {ids}

-- params_of: Params of some logged models.
SELECT model_id, key, value FROM fold.logged_model_params WHERE model_id IN {ids}

-- series_of: The numbers of the series of some logged models.
SELECT series FROM fold.series WHERE model_id IN {ids}

-- metrics_of: The newest points of series, at most n for each logged model.
SELECT s.model_id, s.key, p.value, p.timestamp_ms, p.step, s.dataset_name, s.dataset_digest, r.run_id
FROM fold.series s JOIN fold.points p ON p.series = s.series JOIN fold.runs r ON r.run = s.run
WHERE s.series IN ({series})
QUALIFY row_number() OVER (PARTITION BY s.model_id ORDER BY p.timestamp_ms DESC, p.step DESC) <= {n}
ORDER BY p.timestamp_ms, p.step, s.key, p.value

-- newest_metric: The newest point of a metric of each logged model, on certain datasets.
SELECT s.model_id, p.value
FROM fold.series s JOIN fold.points p ON p.series = s.series JOIN fold.runs r ON r.run = s.run
WHERE s.key = ? AND s.model_id IS NOT NULL AND {datasets}
QUALIFY row_number() OVER (
    PARTITION BY s.model_id ORDER BY p.timestamp_ms DESC, p.step DESC, r.run_id
) = 1

-- search_metric: A metric of each logged model, on certain datasets.
SELECT s.model_id AS id, p.value FROM fold.series s JOIN fold.points p ON p.series = s.series
WHERE s.model_id IS NOT NULL AND s.key = ? AND {datasets}

-- search_param: A param of each logged model.
SELECT model_id AS id, value FROM fold.logged_model_params WHERE key = ?

-- search_tag: A tag of each logged model.
SELECT model_id AS id, value FROM fold.logged_model_tags WHERE key = ?

-- with_datasets: Logged models that have a metric on certain datasets.
SELECT s.model_id FROM fold.series s WHERE {datasets}
