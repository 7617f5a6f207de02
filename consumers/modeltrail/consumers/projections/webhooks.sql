-- Webhooks with their present values. webhook_id is the id of the event that created it; events is
-- a JSON list.
CREATE TABLE fold.webhooks (
    webhook_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    endpoint VARCHAR NOT NULL,
    description VARCHAR,
    events VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

-- Where deliveries go, and what signs them, encrypted. SQL from outside must not name it.
CREATE TABLE fold.webhook_secrets (
    webhook_id VARCHAR NOT NULL,
    url VARCHAR,
    secret VARCHAR
);

CREATE VIEW webhooks AS
SELECT
    webhook_id, name, endpoint, description, from_json(events, '["VARCHAR"]') AS events, status,
    fold.at(created_at_ms) AS created_at, fold.at(updated_at_ms) AS updated_at, created_by
FROM fold.webhooks
WHERE NOT deleted;

CREATE VIEW webhooks_history AS
SELECT
    h.entity_id AS webhook_id, w.name, h.attribute, h.value,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.actor_verified AS set_by_verified, h.reason
FROM fold.history h JOIN fold.webhooks w ON w.webhook_id = h.entity_id
WHERE h.entity = 'webhook' AND h.attribute <> 'updated';

COMMENT ON VIEW webhooks IS 'Webhooks, without their secrets.';
COMMENT ON COLUMN webhooks.webhook_id IS 'Id of the webhook: the id of the event that created it.';
COMMENT ON COLUMN webhooks.name IS 'Its name.';
COMMENT ON COLUMN webhooks.endpoint IS 'Where deliveries are posted, without the path, which may be a password.';
COMMENT ON COLUMN webhooks.description IS 'Its description.';
COMMENT ON COLUMN webhooks.events IS 'Events that are delivered, such as model_version_alias.created.';
COMMENT ON COLUMN webhooks.status IS 'ACTIVE or DISABLED.';
COMMENT ON COLUMN webhooks.created_at IS 'When the log took the event that created it.';
COMMENT ON COLUMN webhooks.updated_at IS 'When it was last changed.';
COMMENT ON COLUMN webhooks.created_by IS 'Who created it.';

COMMENT ON VIEW webhooks_history IS 'Changes of webhooks, as intervals; including deleted ones.';
COMMENT ON COLUMN webhooks_history.webhook_id IS 'Id of the webhook.';
COMMENT ON COLUMN webhooks_history.name IS 'Its last name.';
COMMENT ON COLUMN webhooks_history.attribute IS 'lifecycle, name, endpoint, status or events.';
COMMENT ON COLUMN webhooks_history.value IS 'Its value; events as a JSON list.';
COMMENT ON COLUMN webhooks_history.valid_from IS 'From when it held; by the log''s time.';
COMMENT ON COLUMN webhooks_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN webhooks_history.from_offset IS 'Registry offset of the event from which the value is valid.';
COMMENT ON COLUMN webhooks_history.to_offset IS 'Registry offset of the event that ended it; NULL if it still holds.';
COMMENT ON COLUMN webhooks_history.set_by IS 'Who set it.';
COMMENT ON COLUMN webhooks_history.set_by_verified IS 'Whether the name is proven.';
COMMENT ON COLUMN webhooks_history.reason IS 'The reason that was given.';
