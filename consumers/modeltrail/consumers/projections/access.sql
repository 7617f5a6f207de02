-- Users with their present values. user_id is the offset of the event that created the user.
CREATE TABLE fold.users (
    user_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    admin BOOLEAN NOT NULL,
    has_password BOOLEAN NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

-- Tokens; token_id is the offset of the event that made it.
CREATE TABLE fold.tokens (
    token_id VARCHAR NOT NULL,
    user_id VARCHAR NOT NULL,
    description VARCHAR,
    expires_at_ms BIGINT,
    made_by_token VARCHAR,
    token_kind VARCHAR NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

-- Roles. Who has one is in fold.history: entity 'user', attribute 'role', the role's id as key.
CREATE TABLE fold.roles (
    role_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    description VARCHAR,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

-- Permissions with their present values. Either pattern (a name, or a prefix and *) is given or
-- entity_id (an experiment_id or a model_key).
CREATE TABLE fold.permissions (
    permission_id VARCHAR NOT NULL,
    holder VARCHAR NOT NULL,
    holder_id VARCHAR NOT NULL,
    resource VARCHAR NOT NULL,
    pattern VARCHAR,
    entity_id VARCHAR,
    permission VARCHAR NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    created_by VARCHAR NOT NULL,
    deleted BOOLEAN NOT NULL
);

-- Hashes of passwords and tokens, by user_id or token_id. SQL from outside must not name it.
CREATE TABLE fold.secrets (
    secret_id VARCHAR NOT NULL,
    hash VARCHAR
);

CREATE VIEW users AS
SELECT
    name AS "user", admin, has_password,
    fold.at(created_at_ms) AS created_at, fold.at(updated_at_ms) AS updated_at, created_by,
    user_id
FROM fold.users
WHERE NOT deleted;

CREATE VIEW tokens AS
SELECT
    t.token_id, u.name AS "user", t.description,
    fold.at(t.expires_at_ms) AS expires_at, fold.at(t.created_at_ms) AS created_at, t.created_by,
    t.made_by_token, t.token_kind AS kind
FROM fold.tokens t JOIN fold.users u ON u.user_id = t.user_id
WHERE NOT t.deleted;

CREATE VIEW roles AS
SELECT
    role_id, name AS role, description,
    fold.at(created_at_ms) AS created_at, fold.at(updated_at_ms) AS updated_at, created_by
FROM fold.roles
WHERE NOT deleted;

CREATE VIEW role_members AS
SELECT
    h.key AS role_id, r.name AS role, u.name AS "user",
    fold.at(h.from_time_ms) AS assigned_at, h.actor AS assigned_by
FROM fold.history h
JOIN fold.users u ON u.user_id = h.entity_id
JOIN fold.roles r ON r.role_id = h.key
WHERE h.entity = 'user' AND h.attribute = 'role' AND h.to_offset IS NULL;

-- Permissions with the names of who holds them and of what they are for, whenever they held.
CREATE VIEW fold.permissions_named AS
SELECT
    p.permission_id, u.name AS "user", r.name AS role, p.resource,
    coalesce(p.pattern, e.name, m.model) AS pattern, p.entity_id, p.permission, p.deleted,
    p.created_at_ms, p.created_by
FROM fold.permissions p
LEFT JOIN fold.users u ON p.holder = 'user' AND u.user_id = p.holder_id
LEFT JOIN fold.roles r ON p.holder = 'role' AND r.role_id = p.holder_id
LEFT JOIN fold.experiments e ON p.resource = 'experiment' AND e.experiment_id = p.entity_id
LEFT JOIN fold.models m ON p.resource = 'registered_model' AND m.model_key = p.entity_id;

CREATE VIEW permissions AS
SELECT
    p.permission_id, p."user", p.role, p.resource, p.pattern, p.entity_id, p.permission,
    fold.at(h.from_time_ms) AS granted_at, h.actor AS granted_by, h.reason
FROM fold.permissions_named p
JOIN fold.history h ON h.entity = 'permission' AND h.entity_id = p.permission_id
    AND h.attribute = 'permission' AND h.to_offset IS NULL
WHERE NOT p.deleted;

CREATE VIEW permissions_history AS
SELECT
    p.permission_id, p."user", p.role, p.resource, p.pattern, p.entity_id, h.value AS permission,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.actor_verified AS set_by_verified, h.reason
FROM fold.history h JOIN fold.permissions_named p ON p.permission_id = h.entity_id
WHERE h.entity = 'permission' AND h.attribute = 'permission';

CREATE VIEW users_history AS
SELECT
    u.name AS "user", h.attribute,
    CASE WHEN h.attribute = 'role' THEN r.name ELSE h.value END AS value,
    fold.at(h.from_time_ms) AS valid_from, fold.at(h.to_time_ms) AS valid_to,
    h.from_offset, h.to_offset, h.actor AS set_by, h.actor_verified AS set_by_verified, h.reason
FROM fold.history h
JOIN fold.users u ON u.user_id = h.entity_id
LEFT JOIN fold.roles r ON h.attribute = 'role' AND r.role_id = h.key
WHERE h.entity = 'user' AND h.attribute <> 'updated';

COMMENT ON VIEW users IS 'Users who can sign in.';
COMMENT ON COLUMN users."user" IS 'Name of the user.';
COMMENT ON COLUMN users.admin IS 'Whether the user may do everything.';
COMMENT ON COLUMN users.has_password IS 'Whether the user has a password; otherwise tokens only.';
COMMENT ON COLUMN users.created_at IS 'When the log took the event that created the user.';
COMMENT ON COLUMN users.updated_at IS 'When the password or the administrator''s right last changed.';
COMMENT ON COLUMN users.created_by IS 'Who created the user.';
COMMENT ON COLUMN users.user_id IS 'Id of the user: the registry offset of the event that created it.';

COMMENT ON VIEW tokens IS 'Tokens that are not revoked, without their secrets.';
COMMENT ON COLUMN tokens.token_id IS 'Id of the token: the registry offset of the event that created it.';
COMMENT ON COLUMN tokens."user" IS 'Who signs in with it.';
COMMENT ON COLUMN tokens.description IS 'What it is for.';
COMMENT ON COLUMN tokens.expires_at IS 'When it ends; NULL for never.';
COMMENT ON COLUMN tokens.created_at IS 'When the log took the event that created it.';
COMMENT ON COLUMN tokens.created_by IS 'Who created it.';
COMMENT ON COLUMN tokens.made_by_token IS 'Id of the token that its maker signed in with; NULL for a password.';
COMMENT ON COLUMN tokens.kind IS 'token, or session for the cookie of a browser that signed in.';

COMMENT ON VIEW roles IS 'Roles: permissions that several users share.';
COMMENT ON COLUMN roles.role_id IS 'Id of the role: the registry offset of the event that created it.';
COMMENT ON COLUMN roles.role IS 'Name of the role.';
COMMENT ON COLUMN roles.description IS 'What it is for.';
COMMENT ON COLUMN roles.created_at IS 'When the log took the event that created it.';
COMMENT ON COLUMN roles.updated_at IS 'When it was last renamed or described.';
COMMENT ON COLUMN roles.created_by IS 'Who created it.';

COMMENT ON VIEW role_members IS 'Who has which role.';
COMMENT ON COLUMN role_members.role_id IS 'Id of the role.';
COMMENT ON COLUMN role_members.role IS 'Name of the role.';
COMMENT ON COLUMN role_members."user" IS 'Name of the user.';
COMMENT ON COLUMN role_members.assigned_at IS 'When the log took the event that gave the user the role.';
COMMENT ON COLUMN role_members.assigned_by IS 'Who gave it.';

COMMENT ON VIEW permissions IS 'Permissions of users on experiments and registered models.';
COMMENT ON COLUMN permissions.permission_id IS 'Id of the permission: the registry offset of the event that first granted it.';
COMMENT ON COLUMN permissions."user" IS 'User who holds it; NULL if a role does.';
COMMENT ON COLUMN permissions.role IS 'Role that holds it; NULL if a user does.';
COMMENT ON COLUMN permissions.resource IS 'experiment or registered_model.';
COMMENT ON COLUMN permissions.pattern IS 'A name, or a prefix followed by *; the present name where it is for one entity.';
COMMENT ON COLUMN permissions.entity_id IS 'Id of the experiment or key of the model, if the permission is for one entity, whatever its name.';
COMMENT ON COLUMN permissions.permission IS 'NO_PERMISSIONS, DENY, READ, USE, EDIT or MANAGE.';
COMMENT ON COLUMN permissions.granted_at IS 'When the log took the event that last granted it.';
COMMENT ON COLUMN permissions.granted_by IS 'Who granted it.';
COMMENT ON COLUMN permissions.reason IS 'The reason that was given.';

COMMENT ON VIEW permissions_history IS 'Permissions, as intervals: who had which permission, when, and who granted it.';
COMMENT ON COLUMN permissions_history.permission_id IS 'Id of the permission.';
COMMENT ON COLUMN permissions_history."user" IS 'User who held it; NULL if a role did.';
COMMENT ON COLUMN permissions_history.role IS 'Role that held it; NULL if a user did.';
COMMENT ON COLUMN permissions_history.resource IS 'experiment or registered_model.';
COMMENT ON COLUMN permissions_history.pattern IS 'A name, or a prefix followed by *; the last name where it was for one entity.';
COMMENT ON COLUMN permissions_history.entity_id IS 'Id of the experiment or key of the model, if the permission was for one entity.';
COMMENT ON COLUMN permissions_history.permission IS 'NO_PERMISSIONS, DENY, READ, USE, EDIT or MANAGE.';
COMMENT ON COLUMN permissions_history.valid_from IS 'From when it held; by the log''s time.';
COMMENT ON COLUMN permissions_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN permissions_history.from_offset IS 'Registry offset of the event from which the value is valid.';
COMMENT ON COLUMN permissions_history.to_offset IS 'Registry offset of the event that ended it; NULL if it still holds.';
COMMENT ON COLUMN permissions_history.set_by IS 'Who granted it.';
COMMENT ON COLUMN permissions_history.set_by_verified IS 'Whether the name is proven.';
COMMENT ON COLUMN permissions_history.reason IS 'The reason that was given.';

COMMENT ON VIEW users_history IS 'Changes of users, as intervals: lifecycle, admin, and role.';
COMMENT ON COLUMN users_history."user" IS 'Name of the user.';
COMMENT ON COLUMN users_history.attribute IS 'lifecycle, admin or role.';
COMMENT ON COLUMN users_history.value IS 'Its value; for a role, the role''s name.';
COMMENT ON COLUMN users_history.valid_from IS 'From when it held; by the log''s time.';
COMMENT ON COLUMN users_history.valid_to IS 'End of the interval; NULL if the value is current.';
COMMENT ON COLUMN users_history.from_offset IS 'Registry offset of the event from which the value is valid.';
COMMENT ON COLUMN users_history.to_offset IS 'Registry offset of the event that ended it; NULL if it still holds.';
COMMENT ON COLUMN users_history.set_by IS 'Who set it.';
COMMENT ON COLUMN users_history.set_by_verified IS 'Whether the name is proven.';
COMMENT ON COLUMN users_history.reason IS 'The reason that was given.';
