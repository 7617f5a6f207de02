-- experiments: All experiments.
SELECT experiment_id, name, artifact_location, deleted, created_at_ms, updated_at_ms
FROM fold.experiments

-- experiment_tags: Their tags.
SELECT entity_id, key, value FROM fold.history
WHERE entity = 'experiment' AND attribute = 'tag' AND to_offset IS NULL

-- imported_experiments: Ids of experiments in a source, with their ids here.
SELECT request->>'imported_id', experiment_id FROM fold.requests
WHERE type = 'ImportExperiment' AND accepted AND request->>'imported_from' = ?

-- experiments_with_runs: Ids of experiments that have runs.
SELECT DISTINCT experiment_id FROM fold.runs

-- models: All registered models.
SELECT model_key, model, description, created_at_ms, updated_at_ms, next_version
FROM fold.models WHERE NOT deleted

-- versions: All model versions.
SELECT model_key, version, source, run_id, model_id, run_link, description, stage, created_at_ms,
    updated_at_ms
FROM fold.model_versions WHERE NOT deleted ORDER BY version

-- aliases_and_tags: All aliases of models, tags of models and of versions.
SELECT entity, entity_id, version, key, value FROM fold.history
WHERE to_offset IS NULL AND (entity = 'alias' OR attribute = 'tag')
AND entity IN ('alias', 'model', 'model_version')

-- runs: Runs with some ids.
SELECT r.run_id, a.last_seen_offset, r.started, r.experiment_id, r.name, r.status, r.ended_at_ms,
    r.deleted, a.points_stored
FROM fold.runs r JOIN fold.activity a ON a.run = r.run
WHERE r.run_id IN (SELECT unnest(?::VARCHAR[]))

-- of_runs: Rows of another table about these runs.
SELECT r.run_id, {columns} FROM fold.{table} t JOIN fold.runs r ON r.run = t.run
WHERE r.run_id IN (SELECT unnest(?::VARCHAR[]))

-- series: Series of these runs.
SELECT s.series, r.run_id, s.key, s.model_id, s.dataset_name, s.dataset_digest
FROM fold.series s JOIN fold.runs r ON r.run = s.run
WHERE r.run_id IN (SELECT unnest(?::VARCHAR[])) ORDER BY s.series

-- points: The points of series; the range beside the list lets the database skip the others.
SELECT p.series, p.step, p.timestamp_ms, p.value FROM fold.points p
WHERE p.series BETWEEN ? AND ? AND p.series IN (SELECT unnest(?::INTEGER[]))

-- run_files: The files of a run.
SELECT t.path, t.size_bytes, t.sha256 FROM fold.artifacts t JOIN fold.runs r ON r.run = t.run
WHERE r.run_id = ?

-- logged_model_files: The files of a logged model.
SELECT path, size_bytes, sha256 FROM fold.logged_model_artifacts WHERE model_id = ?

-- logged_models: Logged models with some ids.
SELECT model_id, name, status, deleted FROM fold.logged_models
WHERE model_id IN (SELECT unnest(?::VARCHAR[]))
