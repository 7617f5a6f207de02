-- Saved views; view_id is the offset of the event that first saved it. Page, query and description
-- are in fold.history: entity 'view'.
CREATE TABLE fold.views (
    view_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    experiment_id VARCHAR,
    shared BOOLEAN NOT NULL,
    owner VARCHAR NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

CREATE VIEW saved_views AS
SELECT
    v.view_id, v.name, v.experiment_id, v.shared, v.owner, h.page, h.query, h.description,
    fold.at(v.created_at_ms) AS created_at, fold.at(v.updated_at_ms) AS updated_at
FROM fold.views v JOIN (
    SELECT
        entity_id, any_value(value) FILTER (attribute = 'page') AS page,
        any_value(value) FILTER (attribute = 'query') AS query,
        any_value(value) FILTER (attribute = 'description') AS description
    FROM fold.history WHERE entity = 'view' AND to_offset IS NULL GROUP BY entity_id
) h ON h.entity_id = v.view_id
WHERE NOT v.deleted;

COMMENT ON VIEW saved_views IS 'Saved views of pages, everyone''s.';
COMMENT ON COLUMN saved_views.view_id IS 'Id of the view: the registry offset of the event that first saved it.';
COMMENT ON COLUMN saved_views.name IS 'Name.';
COMMENT ON COLUMN saved_views.experiment_id IS 'Id of the experiment that it belongs to; NULL for none.';
COMMENT ON COLUMN saved_views.shared IS 'Whether others see it.';
COMMENT ON COLUMN saved_views.owner IS 'Who saved it first.';
COMMENT ON COLUMN saved_views.page IS 'The page that it is a view of.';
COMMENT ON COLUMN saved_views.query IS 'The page''s query string.';
COMMENT ON COLUMN saved_views.description IS 'What it shows.';
COMMENT ON COLUMN saved_views.created_at IS 'When the log took the event that first saved it.';
COMMENT ON COLUMN saved_views.updated_at IS 'When it was last saved.';
