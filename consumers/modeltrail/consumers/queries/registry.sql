-- last_offset: The last offset that is folded; -1 for none.
SELECT coalesce(max("offset"), -1) FROM fold.requests

-- offset_by: The last offset that the log had taken by a time.
SELECT coalesce(max("offset"), -1) FROM fold.requests WHERE appended_at_ms <= ?

-- appended: When an event was appended.
SELECT appended_at_ms FROM fold.requests WHERE "offset" = ?

-- outcomes: What was decided about the requests at some offsets.
SELECT "offset", accepted, message, experiment_id FROM fold.requests
WHERE "offset" IN (SELECT unnest(?::BIGINT[])) AND accepted IS NOT NULL

-- beginning: A time before the first event. No event creates the built-in Default experiment.
(least(
    (SELECT min(appended_at_ms) FROM fold.requests), (SELECT min(appended_at_ms) FROM fold.runs)
) - 1)

-- experiment: Whether an experiment is deleted, and where its artifacts are.
SELECT deleted, artifact_location FROM fold.experiments WHERE experiment_id = ?

-- experiments: Experiments e that a search finds.
SELECT {columns} FROM fold.experiments e {rest}

-- experiment_tags: Tags of some experiments.
SELECT entity_id, key, value FROM fold.history
WHERE entity = 'experiment' AND attribute = 'tag' AND to_offset IS NULL
AND list_contains(?::VARCHAR[], entity_id)

-- search_experiment_tag: A tag of each experiment.
SELECT entity_id AS id, value FROM fold.history
WHERE entity = 'experiment' AND attribute = 'tag' AND to_offset IS NULL AND key = ?

-- models: Keys of the models m that a search finds.
SELECT m.model_key FROM fold.models m {joins} WHERE NOT m.deleted AND {rest}

-- search_model_tag: A tag of each model.
SELECT entity_id AS id, value FROM fold.history
WHERE entity = 'model' AND attribute = 'tag' AND to_offset IS NULL AND key = ?

-- search_prompt: Whether each model is a prompt, from its tag.
SELECT p.model_key AS id, lower(coalesce(h.value, 'false')) AS value
FROM fold.models p LEFT JOIN fold.history h ON h.entity = 'model' AND h.attribute = 'tag'
    AND h.entity_id = p.model_key AND h.to_offset IS NULL AND h.key = '{tag}'

-- model: Key of a model, and whether it is a prompt.
SELECT m.model_key, EXISTS (
    SELECT 1 FROM fold.history h WHERE h.entity = 'model' AND h.attribute = 'tag'
    AND h.entity_id = m.model_key AND h.to_offset IS NULL
    AND h.key = 'mlflow.prompt.is_prompt' AND lower(h.value) = 'true')
FROM fold.models m WHERE m.model = ? AND NOT m.deleted

-- alias: The version that an alias points at.
SELECT version FROM fold.history
WHERE entity = 'alias' AND entity_id = ? AND key = ? AND to_offset IS NULL

-- latest_version: The highest number, in a stage if one is given.
SELECT max(version) FROM fold.model_versions
WHERE model_key = $key AND NOT deleted AND ($stage IS NULL OR lower(stage) = lower($stage))

-- version: Run and logged model of a version.
SELECT run_id, model_id FROM fold.model_versions
WHERE model_key = ? AND version = ? AND NOT deleted

-- source: Where the files of a version are, by the present name of its model.
SELECT v.source, v.created_at_ms
FROM fold.model_versions v JOIN fold.models m ON m.model_key = v.model_key
WHERE m.model = ? AND NOT m.deleted AND v.version = TRY_CAST(? AS BIGINT) AND NOT v.deleted

-- source_at: The same by the name at a time. An imported version may be older than its name in this
-- registry.
SELECT v.source, v.created_at_ms
FROM fold.history h JOIN fold.model_versions v ON v.model_key = h.entity_id
WHERE h.entity = 'model' AND h.attribute = 'name' AND h.value = $name AND v.version = $version
    AND (h.to_time_ms IS NULL OR h.to_time_ms >= $at)
ORDER BY h.from_time_ms <= $at DESC, abs(h.from_time_ms - $at) LIMIT 1

-- sources: Where the files of a model's versions are.
SELECT v.version, v.source, v.created_at_ms
FROM fold.model_versions v JOIN fold.models m ON m.model_key = v.model_key
WHERE m.model = ? AND NOT m.deleted AND NOT v.deleted ORDER BY v.version

-- versions: Keys and numbers of the versions v, of models m, that a search finds.
SELECT v.model_key, v.version
FROM fold.model_versions v JOIN fold.models m ON m.model_key = v.model_key {joins}
WHERE NOT v.deleted AND NOT m.deleted AND {rest}

-- search_version_tag: A tag of each version.
SELECT entity_id || '/' || version AS id, value FROM fold.history
WHERE entity = 'model_version' AND attribute = 'tag' AND to_offset IS NULL AND key = ?

-- search_prompt_version: Whether each version is a prompt's, from its tag.
SELECT p.model_key || '/' || p.version AS id, lower(coalesce(h.value, 'false')) AS value
FROM fold.model_versions p LEFT JOIN fold.history h
    ON h.entity = 'model_version' AND h.attribute = 'tag' AND h.entity_id = p.model_key
    AND h.version = p.version AND h.to_offset IS NULL AND h.key = '{tag}'

-- tags_at: Tags of all entities of a kind at an offset.
SELECT {columns}, key, value FROM history
WHERE entity = ? AND attribute = 'tag' AND fold.holds(from_offset, to_offset, ?) ORDER BY key

-- tags_of_models_at: Tags of some models, or of their versions, at an offset.
SELECT named.value, tag.version, tag.key, tag.value
FROM history named JOIN history tag USING (model_key)
WHERE named.entity = 'model' AND named.attribute = 'name'
    AND named.value IN (SELECT unnest($names))
    AND fold.holds(named.from_offset, named.to_offset, $at)
    AND tag.entity = $entity AND tag.attribute = 'tag'
    AND fold.holds(tag.from_offset, tag.to_offset, $at)
ORDER BY tag.key

-- names: Kind, id and last name of everything with one of these ids; for a token, its user.
SELECT * FROM (
    SELECT 'experiment', experiment_id, name FROM fold.experiments
    UNION ALL SELECT 'registered_model', model_key, model FROM fold.models
    UNION ALL SELECT 'webhook', webhook_id, name FROM fold.webhooks
    UNION ALL SELECT 'role', role_id, name FROM fold.roles
    UNION ALL SELECT 'view', view_id, name FROM fold.views
    UNION ALL SELECT 'token', token_id, u.name FROM fold.tokens JOIN fold.users u USING (user_id)
) AS names(kind, id, name) WHERE id IN (SELECT unnest(?))

-- webhooks: Webhooks with the URLs that deliveries go to.
SELECT webhook_id, name, url, description, events, status, created_at_ms, updated_at_ms
FROM fold.webhooks JOIN fold.webhook_secrets USING (webhook_id) WHERE NOT deleted
