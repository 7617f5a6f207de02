-- The public views over the registry stream. They are what people query: a column, once released,
-- stays. All times are the log's, in UTC. Current state is the open intervals of fold.history.

-- Whether a half-open interval of offsets holds at an offset.
CREATE MACRO fold.holds(from_offset, to_offset, at_offset) AS
    from_offset <= at_offset AND (to_offset IS NULL OR to_offset > at_offset);

-- The text form of an event id.
CREATE MACRO fold.uuid_of(id) AS lower(hex(id))::UUID::VARCHAR;

CREATE VIEW experiments AS
SELECT
    experiment_id, name, artifact_location, deleted,
    fold.at(created_at_ms) AS created_at, fold.at(updated_at_ms) AS updated_at, created_by
FROM fold.experiments;

CREATE VIEW experiment_tags AS
SELECT entity_id AS experiment_id, key, value
FROM fold.history
WHERE entity = 'experiment' AND attribute = 'tag' AND to_offset IS NULL;

CREATE VIEW models AS
SELECT
    model, description,
    fold.at(created_at_ms) AS created_at, fold.at(updated_at_ms) AS updated_at, created_by
FROM fold.models
WHERE NOT deleted;

CREATE VIEW model_tags AS
SELECT m.model, h.key, h.value
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'model' AND h.attribute = 'tag' AND h.to_offset IS NULL;

CREATE VIEW model_versions AS
SELECT
    m.model, v.version, v.stage, v.description, v.source, v.run_id, v.model_id, v.run_link,
    fold.at(v.created_at_ms) AS created_at, fold.at(v.updated_at_ms) AS updated_at, v.created_by
FROM fold.model_versions v JOIN fold.models m ON m.model_key = v.model_key
WHERE NOT v.deleted;

CREATE VIEW model_version_tags AS
SELECT m.model, h.version, h.key, h.value
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'model_version' AND h.attribute = 'tag' AND h.to_offset IS NULL;

CREATE VIEW aliases AS
SELECT
    m.model, h.key AS alias, h.version,
    fold.at(h.from_time_ms) AS set_at, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'alias' AND h.to_offset IS NULL;

CREATE VIEW stages AS
SELECT
    m.model, h.version, h.value AS stage,
    fold.at(h.from_time_ms) AS set_at, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'model_version' AND h.attribute = 'stage' AND h.to_offset IS NULL;

-- The comments are the accepted events themselves.
CREATE VIEW comments AS
SELECT
    m.model, r.version, r.model_key, r.request->>'text' AS comment,
    fold.at(r.appended_at_ms) AS added_at, r.actor AS added_by, r.actor_verified AS verified,
    r."offset" AS log_offset
FROM fold.requests r JOIN fold.models m ON m.model_key = r.model_key
WHERE r.type = 'CommentAdded' AND r.accepted;

-- Every interval of everything that changes.
CREATE VIEW history AS
SELECT
    h.entity, CASE WHEN h.entity = 'experiment' THEN h.entity_id END AS experiment_id,
    m.model, h.version, h.attribute, h.key, h.value,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.actor_verified AS set_by_verified, h.reason,
    fold.uuid_of(h.from_event_id) AS event_id, m.model_key
FROM fold.history h
LEFT JOIN fold.models m ON h.entity <> 'experiment' AND m.model_key = h.entity_id
WHERE h.attribute <> 'updated' AND h.entity IN ('experiment', 'model', 'model_version', 'alias');

CREATE VIEW aliases_history AS
SELECT
    m.model, h.key AS alias, h.version,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'alias';

CREATE VIEW stages_history AS
SELECT
    m.model, h.version, h.value AS stage,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'model_version' AND h.attribute = 'stage';

CREATE VIEW descriptions_history AS
SELECT
    m.model, h.version, h.value AS description,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.attribute = 'description';

CREATE VIEW model_names_history AS
SELECT
    m.model, h.value AS name,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'model' AND h.attribute = 'name';

CREATE VIEW model_tags_history AS
SELECT
    m.model, h.key, h.value,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'model' AND h.attribute = 'tag';

CREATE VIEW model_version_tags_history AS
SELECT
    m.model, h.version, h.key, h.value,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
WHERE h.entity = 'model_version' AND h.attribute = 'tag';

CREATE VIEW experiment_names_history AS
SELECT
    h.entity_id AS experiment_id, h.value AS name,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h
WHERE h.entity = 'experiment' AND h.attribute = 'name';

CREATE VIEW experiment_tags_history AS
SELECT
    h.entity_id AS experiment_id, h.key, h.value,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.reason
FROM fold.history h
WHERE h.entity = 'experiment' AND h.attribute = 'tag';

-- A transition begins an interval of a stage; the interval in which the version was created does not.
CREATE VIEW transitions AS
SELECT model, version, from_stage, to_stage, moved_at, moved_by, reason, log_offset
FROM (
    SELECT
        m.model, h.version, lag(h.value) OVER stages AS from_stage, h.value AS to_stage,
        fold.at(h.from_time_ms) AS moved_at, h.actor AS moved_by, h.reason,
        h.from_offset AS log_offset
    FROM fold.history h JOIN fold.models m ON m.model_key = h.entity_id
    WHERE h.entity = 'model_version' AND h.attribute = 'stage'
    WINDOW stages AS (PARTITION BY h.entity_id, h.version ORDER BY h.from_offset)
)
WHERE from_stage IS NOT NULL;

-- Every event of the registry stream in log order. Events without a decision are marked.
CREATE VIEW audit AS
SELECT
    r."offset" AS log_offset, fold.at(r.appended_at_ms) AS appended_at, fold.uuid_of(r.event_id) AS event_id,
    r.type, r.actor, r.actor_verified, r.client, r.reason,
    r.entity, r.model, r.version, r.alias, r.experiment_id,
    r.accepted,
    CASE WHEN r.accepted IS NOT NULL THEN r.code WHEN d.error IS NOT NULL THEN 'DEAD_LETTER' ELSE 'REPEAT' END AS code,
    CASE
        WHEN r.accepted IS NOT NULL THEN r.message
        ELSE coalesce(d.error, 'A repeat of an earlier event, without effect.')
    END AS message,
    r.request, lower(hex(r.hash)) AS hash, r.model_key
FROM fold.requests r
LEFT JOIN fold.dead_letters d ON d.stream = 'registry' AND d."offset" = r."offset";

-- As-of by registry offset: the state right after the event at that offset. -1 is before the first.
CREATE MACRO aliases_at(at_offset) AS TABLE
SELECT
    n.value AS model, h.key AS alias, h.version,
    fold.at(h.from_time_ms) AS set_at, h.actor AS set_by, h.reason
FROM fold.history h
JOIN fold.history n ON n.entity = 'model' AND n.attribute = 'name' AND n.entity_id = h.entity_id
WHERE h.entity = 'alias' AND fold.holds(h.from_offset, h.to_offset, at_offset)
    AND fold.holds(n.from_offset, n.to_offset, at_offset);

CREATE MACRO stages_at(at_offset) AS TABLE
SELECT
    n.value AS model, h.version, h.value AS stage,
    fold.at(h.from_time_ms) AS set_at, h.actor AS set_by, h.reason
FROM fold.history h
JOIN fold.history n ON n.entity = 'model' AND n.attribute = 'name' AND n.entity_id = h.entity_id
WHERE h.entity = 'model_version' AND h.attribute = 'stage'
    AND fold.holds(h.from_offset, h.to_offset, at_offset)
    AND fold.holds(n.from_offset, n.to_offset, at_offset);

CREATE MACRO experiments_at(at_offset) AS TABLE
SELECT
    e.experiment_id, h.name, e.artifact_location, h.lifecycle = 'deleted' AS deleted,
    fold.at(e.created_at_ms) AS created_at, fold.at(h.updated_at_ms) AS updated_at, e.created_by
FROM fold.experiments e
JOIN (
    SELECT
        entity_id,
        any_value(value) FILTER (attribute = 'name') AS name,
        any_value(value) FILTER (attribute = 'lifecycle') AS lifecycle,
        any_value(from_time_ms) FILTER (attribute = 'updated') AS updated_at_ms
    FROM fold.history
    WHERE entity = 'experiment' AND fold.holds(from_offset, to_offset, at_offset)
    GROUP BY entity_id
) h ON h.entity_id = e.experiment_id;

CREATE MACRO models_at(at_offset) AS TABLE
SELECT
    h.name AS model, h.description,
    fold.at(m.created_at_ms) AS created_at, fold.at(h.updated_at_ms) AS updated_at, m.created_by
FROM fold.models m
JOIN (
    SELECT
        entity_id,
        any_value(value) FILTER (attribute = 'name') AS name,
        any_value(value) FILTER (attribute = 'description') AS description,
        any_value(from_time_ms) FILTER (attribute = 'updated') AS updated_at_ms
    FROM fold.history
    WHERE entity = 'model' AND fold.holds(from_offset, to_offset, at_offset)
    GROUP BY entity_id
) h ON h.entity_id = m.model_key;

CREATE MACRO model_versions_at(at_offset) AS TABLE
SELECT
    n.value AS model, v.version, h.stage, h.description, v.source, v.run_id, v.model_id, v.run_link,
    fold.at(v.created_at_ms) AS created_at, fold.at(h.updated_at_ms) AS updated_at, v.created_by
FROM fold.model_versions v
JOIN (
    SELECT
        entity_id, version,
        any_value(value) FILTER (attribute = 'stage') AS stage,
        any_value(value) FILTER (attribute = 'description') AS description,
        any_value(from_time_ms) FILTER (attribute = 'updated') AS updated_at_ms
    FROM fold.history
    WHERE entity = 'model_version' AND fold.holds(from_offset, to_offset, at_offset)
    GROUP BY entity_id, version
) h ON h.entity_id = v.model_key AND h.version = v.version
JOIN fold.history n ON n.entity = 'model' AND n.attribute = 'name' AND n.entity_id = v.model_key
    AND fold.holds(n.from_offset, n.to_offset, at_offset);

-- The last registry offset that the log had taken by a moment (TIMESTAMP in UTC, or text).
CREATE MACRO registry_offset_as_of(moment) AS (
    SELECT coalesce(max("offset"), -1)
    FROM fold.requests
    WHERE appended_at_ms <= epoch_ms(moment::TIMESTAMP)
);

-- As-of by time: the state after the last event that the log had taken by then.
CREATE MACRO aliases_as_of(moment) AS TABLE FROM aliases_at(registry_offset_as_of(moment));
CREATE MACRO stages_as_of(moment) AS TABLE FROM stages_at(registry_offset_as_of(moment));
CREATE MACRO experiments_as_of(moment) AS TABLE FROM experiments_at(registry_offset_as_of(moment));
CREATE MACRO models_as_of(moment) AS TABLE FROM models_at(registry_offset_as_of(moment));
CREATE MACRO model_versions_as_of(moment) AS TABLE
FROM model_versions_at(registry_offset_as_of(moment));

COMMENT ON VIEW experiments IS 'Experiments, including deleted ones.';
COMMENT ON COLUMN experiments.experiment_id IS 'Id of the experiment, a decimal string.';
COMMENT ON COLUMN experiments.name IS 'Name; unique among active and deleted experiments.';
COMMENT ON COLUMN experiments.artifact_location IS 'URI under which its runs keep artifacts; NULL for the server''s default.';
COMMENT ON COLUMN experiments.deleted IS 'Whether it is deleted.';
COMMENT ON COLUMN experiments.created_at IS 'When the log took the event that created it; for one that was imported, when its tracker says that it was created; NULL for Default, which is there from the start.';
COMMENT ON COLUMN experiments.updated_at IS 'When it was last renamed, deleted or restored; else when it was created.';
COMMENT ON COLUMN experiments.created_by IS 'Who created it.';

COMMENT ON VIEW experiment_tags IS 'Current tags of experiments.';
COMMENT ON COLUMN experiment_tags.experiment_id IS 'Id of the experiment, a decimal string.';
COMMENT ON COLUMN experiment_tags.key IS 'Key of the tag.';
COMMENT ON COLUMN experiment_tags.value IS 'Value of the tag.';

COMMENT ON VIEW models IS 'Registered models.';
COMMENT ON COLUMN models.model IS 'Name of the registered model.';
COMMENT ON COLUMN models.description IS 'Description.';
COMMENT ON COLUMN models.created_at IS 'When the log took the event that created it; for one that was imported, when its tracker says that it was created.';
COMMENT ON COLUMN models.updated_at IS 'When it was last changed. As in MLflow, tags and aliases do not count.';
COMMENT ON COLUMN models.created_by IS 'Who created it.';

COMMENT ON VIEW model_tags IS 'Current tags of registered models.';
COMMENT ON COLUMN model_tags.model IS 'Name of the registered model.';
COMMENT ON COLUMN model_tags.key IS 'Key of the tag.';
COMMENT ON COLUMN model_tags.value IS 'Value of the tag.';

COMMENT ON VIEW model_versions IS 'Versions of registered models.';
COMMENT ON COLUMN model_versions.model IS 'Name of the registered model.';
COMMENT ON COLUMN model_versions.version IS 'Version number.';
COMMENT ON COLUMN model_versions.stage IS 'None, Staging, Production or Archived.';
COMMENT ON COLUMN model_versions.description IS 'Description.';
COMMENT ON COLUMN model_versions.source IS 'URI of the model''s files.';
COMMENT ON COLUMN model_versions.run_id IS 'Run that made it.';
COMMENT ON COLUMN model_versions.model_id IS 'Logged model that it was made from.';
COMMENT ON COLUMN model_versions.run_link IS 'Link to the run on another server.';
COMMENT ON COLUMN model_versions.created_at IS 'When the log took the event that created it; for one that was imported, when its tracker says that it was created.';
COMMENT ON COLUMN model_versions.updated_at IS 'When it was last changed. As in MLflow, tags and aliases do not count.';
COMMENT ON COLUMN model_versions.created_by IS 'Who created it.';

COMMENT ON VIEW model_version_tags IS 'Current tags of model versions.';
COMMENT ON COLUMN model_version_tags.model IS 'Name of the registered model.';
COMMENT ON COLUMN model_version_tags.version IS 'Version number.';
COMMENT ON COLUMN model_version_tags.key IS 'Key of the tag.';
COMMENT ON COLUMN model_version_tags.value IS 'Value of the tag.';

COMMENT ON VIEW aliases IS 'Aliases, and the versions that they point at now.';
COMMENT ON COLUMN aliases.model IS 'Name of the registered model.';
COMMENT ON COLUMN aliases.alias IS 'The alias.';
COMMENT ON COLUMN aliases.version IS 'Version that it points at.';
COMMENT ON COLUMN aliases.set_at IS 'When the log took the event that set it; NULL if it was there from the beginning.';
COMMENT ON COLUMN aliases.set_by IS 'Who set it.';
COMMENT ON COLUMN aliases.reason IS 'The reason that was given.';

COMMENT ON VIEW stages IS 'The current stage of every model version, and who set it.';
COMMENT ON COLUMN stages.model IS 'Name of the registered model.';
COMMENT ON COLUMN stages.version IS 'Version number.';
COMMENT ON COLUMN stages.stage IS 'None, Staging, Production or Archived.';
COMMENT ON COLUMN stages.set_at IS 'When the log took the event that set it; NULL if it was there from the beginning.';
COMMENT ON COLUMN stages.set_by IS 'Who set it.';
COMMENT ON COLUMN stages.reason IS 'The reason that was given.';

COMMENT ON VIEW comments IS 'Comments on model versions, which stay when the version is deleted.';
COMMENT ON COLUMN comments.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN comments.version IS 'Version number.';
COMMENT ON COLUMN comments.model_key IS 'Id of the registered model, which stays the same through renames.';
COMMENT ON COLUMN comments.comment IS 'The comment.';
COMMENT ON COLUMN comments.added_at IS 'When the log took the event.';
COMMENT ON COLUMN comments.added_by IS 'Who added it.';
COMMENT ON COLUMN comments.verified IS 'Whether a password or token proved that name.';
COMMENT ON COLUMN comments.log_offset IS 'Registry offset of the event.';

COMMENT ON VIEW history IS 'Everything that changes in the registry, as intervals: each value, when it was valid, who set it and why.';
COMMENT ON COLUMN history.entity IS 'experiment, model, model_version or alias.';
COMMENT ON COLUMN history.experiment_id IS 'Id of the experiment, for experiments.';
COMMENT ON COLUMN history.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN history.version IS 'Version number.';
COMMENT ON COLUMN history.attribute IS 'lifecycle, name, description, tag, stage or alias.';
COMMENT ON COLUMN history.key IS 'Key of the tag, or the alias.';
COMMENT ON COLUMN history.value IS 'Value that held; for an alias the version.';
COMMENT ON COLUMN history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN history.set_by IS 'Who set it.';
COMMENT ON COLUMN history.set_by_verified IS 'Whether a server had authenticated who set it.';
COMMENT ON COLUMN history.reason IS 'The reason that was given.';
COMMENT ON COLUMN history.event_id IS 'Id of the event that set it.';
COMMENT ON COLUMN history.model_key IS 'Number of the registered model: it stays the same when the model is renamed; another model under an old name has its own.';

COMMENT ON VIEW aliases_history IS 'The versions that every alias has pointed at, as intervals.';
COMMENT ON COLUMN aliases_history.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN aliases_history.alias IS 'The alias.';
COMMENT ON COLUMN aliases_history.version IS 'Version that it pointed at.';
COMMENT ON COLUMN aliases_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN aliases_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN aliases_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN aliases_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN aliases_history.set_by IS 'Who set it.';
COMMENT ON COLUMN aliases_history.reason IS 'The reason that was given.';

COMMENT ON VIEW stages_history IS 'The stages of every model version, as intervals.';
COMMENT ON COLUMN stages_history.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN stages_history.version IS 'Version number.';
COMMENT ON COLUMN stages_history.stage IS 'None, Staging, Production or Archived.';
COMMENT ON COLUMN stages_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN stages_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN stages_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN stages_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN stages_history.set_by IS 'Who set it.';
COMMENT ON COLUMN stages_history.reason IS 'The reason that was given.';

COMMENT ON VIEW descriptions_history IS 'Descriptions of models and versions, as intervals.';
COMMENT ON COLUMN descriptions_history.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN descriptions_history.version IS 'Version number; NULL for the description of the model.';
COMMENT ON COLUMN descriptions_history.description IS 'Description.';
COMMENT ON COLUMN descriptions_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN descriptions_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN descriptions_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN descriptions_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN descriptions_history.set_by IS 'Who set it.';
COMMENT ON COLUMN descriptions_history.reason IS 'The reason that was given.';

COMMENT ON VIEW model_names_history IS 'Names of registered models, as intervals.';
COMMENT ON COLUMN model_names_history.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN model_names_history.name IS 'Name that it had.';
COMMENT ON COLUMN model_names_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN model_names_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN model_names_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN model_names_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN model_names_history.set_by IS 'Who set it.';
COMMENT ON COLUMN model_names_history.reason IS 'The reason that was given.';

COMMENT ON VIEW model_tags_history IS 'Tags of registered models, as intervals.';
COMMENT ON COLUMN model_tags_history.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN model_tags_history.key IS 'Key of the tag.';
COMMENT ON COLUMN model_tags_history.value IS 'Value of the tag.';
COMMENT ON COLUMN model_tags_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN model_tags_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN model_tags_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN model_tags_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN model_tags_history.set_by IS 'Who set it.';
COMMENT ON COLUMN model_tags_history.reason IS 'The reason that was given.';

COMMENT ON VIEW model_version_tags_history IS 'Tags of model versions, as intervals.';
COMMENT ON COLUMN model_version_tags_history.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN model_version_tags_history.version IS 'Version number.';
COMMENT ON COLUMN model_version_tags_history.key IS 'Key of the tag.';
COMMENT ON COLUMN model_version_tags_history.value IS 'Value of the tag.';
COMMENT ON COLUMN model_version_tags_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN model_version_tags_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN model_version_tags_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN model_version_tags_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN model_version_tags_history.set_by IS 'Who set it.';
COMMENT ON COLUMN model_version_tags_history.reason IS 'The reason that was given.';

COMMENT ON VIEW experiment_names_history IS 'Names of experiments, as intervals.';
COMMENT ON COLUMN experiment_names_history.experiment_id IS 'Id of the experiment, a decimal string.';
COMMENT ON COLUMN experiment_names_history.name IS 'Name that it had.';
COMMENT ON COLUMN experiment_names_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN experiment_names_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN experiment_names_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN experiment_names_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN experiment_names_history.set_by IS 'Who set it.';
COMMENT ON COLUMN experiment_names_history.reason IS 'The reason that was given.';

COMMENT ON VIEW experiment_tags_history IS 'Tags of experiments, as intervals.';
COMMENT ON COLUMN experiment_tags_history.experiment_id IS 'Id of the experiment, a decimal string.';
COMMENT ON COLUMN experiment_tags_history.key IS 'Key of the tag.';
COMMENT ON COLUMN experiment_tags_history.value IS 'Value of the tag.';
COMMENT ON COLUMN experiment_tags_history.valid_from IS 'Start of the interval: when the log took the event that set the value. NULL for a value that was there from the beginning.';
COMMENT ON COLUMN experiment_tags_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN experiment_tags_history.from_offset IS 'Registry offset of the event that set the value; it is valid from there on. -1 for a value that was there from the beginning.';
COMMENT ON COLUMN experiment_tags_history.to_offset IS 'Registry offset of the event that ended the value, which is no longer valid from there on; NULL if it is current.';
COMMENT ON COLUMN experiment_tags_history.set_by IS 'Who set it.';
COMMENT ON COLUMN experiment_tags_history.reason IS 'The reason that was given.';

COMMENT ON VIEW transitions IS 'Transitions of model versions between stages, including versions that a transition archived.';
COMMENT ON COLUMN transitions.model IS 'Current name of the registered model, or its name when it was deleted.';
COMMENT ON COLUMN transitions.version IS 'Version number.';
COMMENT ON COLUMN transitions.from_stage IS 'Stage before.';
COMMENT ON COLUMN transitions.to_stage IS 'Stage after.';
COMMENT ON COLUMN transitions.moved_at IS 'When the log took the event.';
COMMENT ON COLUMN transitions.moved_by IS 'Who moved it.';
COMMENT ON COLUMN transitions.reason IS 'The reason that was given.';
COMMENT ON COLUMN transitions.log_offset IS 'Registry offset of the event.';

COMMENT ON VIEW audit IS 'Every event of the registry in log order: who asked for what, when and why, and what was decided. Includes refused requests, repeats and dead letters.';
COMMENT ON COLUMN audit.log_offset IS 'Registry offset of the event.';
COMMENT ON COLUMN audit.appended_at IS 'When the log took it.';
COMMENT ON COLUMN audit.event_id IS 'Id of the event.';
COMMENT ON COLUMN audit.type IS 'Event type, as in SetRegisteredModelAlias; NULL if it could not be decoded.';
COMMENT ON COLUMN audit.actor IS 'Who asked.';
COMMENT ON COLUMN audit.actor_verified IS 'Whether a server had authenticated the actor.';
COMMENT ON COLUMN audit.client IS 'Program that sent it.';
COMMENT ON COLUMN audit.reason IS 'The reason that the actor gave.';
COMMENT ON COLUMN audit.entity IS 'What it is about: experiment, model, model_version or alias.';
COMMENT ON COLUMN audit.model IS 'Registered model, by the name in the request.';
COMMENT ON COLUMN audit.version IS 'Version number; for a version that was created, the number that it got.';
COMMENT ON COLUMN audit.alias IS 'The alias.';
COMMENT ON COLUMN audit.experiment_id IS 'Id of the experiment; for one that was created, the id that it got.';
COMMENT ON COLUMN audit.accepted IS 'Whether it took effect; NULL where nothing was to be decided: a repeat or a dead letter.';
COMMENT ON COLUMN audit.code IS 'Why it had no effect: an error code as in MLflow, RESOURCE_CONFLICT if an expectation failed, REPEAT, or DEAD_LETTER.';
COMMENT ON COLUMN audit.message IS 'The reason as a message.';
COMMENT ON COLUMN audit.request IS 'The request as it came, evidence included; secrets and the producer''s id are left out.';
COMMENT ON COLUMN audit.hash IS 'Hash chain up to this event: SHA-256, hexadecimal.';
COMMENT ON COLUMN audit.model_key IS 'Number of the registered model: it stays the same when the model is renamed; another model under an old name has its own.';

COMMENT ON MACRO TABLE aliases_at IS 'What every alias pointed at right after a registry offset; columns as in aliases.';
COMMENT ON MACRO TABLE aliases_as_of IS 'What every alias pointed at at a moment, a TIMESTAMP in UTC; columns as in aliases.';
COMMENT ON MACRO TABLE stages_at IS 'The stage of every model version right after a registry offset; columns as in stages.';
COMMENT ON MACRO TABLE stages_as_of IS 'The stage of every model version at a moment, a TIMESTAMP in UTC; columns as in stages.';
COMMENT ON MACRO TABLE experiments_at IS 'The experiments as they were right after a registry offset; columns as in experiments.';
COMMENT ON MACRO TABLE experiments_as_of IS 'The experiments as they were at a moment, a TIMESTAMP in UTC; columns as in experiments.';
COMMENT ON MACRO TABLE models_at IS 'The registered models as they were right after a registry offset; columns as in models.';
COMMENT ON MACRO TABLE models_as_of IS 'The registered models as they were at a moment, a TIMESTAMP in UTC; columns as in models.';
COMMENT ON MACRO TABLE model_versions_at IS 'The model versions as they were right after a registry offset; columns as in model_versions.';
COMMENT ON MACRO TABLE model_versions_as_of IS 'The model versions as they were at a moment, a TIMESTAMP in UTC; columns as in model_versions.';
COMMENT ON MACRO registry_offset_as_of IS 'The last registry offset that the log had taken by a moment; -1 if none.';
