-- position: The next offset of a stream of one partition.
SELECT next_offset FROM fold.positions WHERE stream = ?

-- experiments: Ids and names.
SELECT experiment_id, name FROM fold.experiments

-- experiments_of: The same for some ids.
SELECT experiment_id, name FROM fold.experiments WHERE experiment_id IN (SELECT unnest(?::VARCHAR[]))

-- models: Names and keys.
SELECT model, model_key FROM fold.models WHERE NOT deleted

-- readable_experiments: Ids of the experiments that a user may read.
SELECT experiment_id FROM fold.experiments WHERE {readable}

-- readable_models: Keys or names of the models that a user may read.
SELECT {column} FROM fold.models WHERE NOT deleted AND {readable}

-- experiment_named: Id of the experiment with a name.
SELECT experiment_id FROM fold.experiments WHERE name = ?

-- model_named: Key of the model with a name.
SELECT model_key FROM fold.models WHERE model = ? AND NOT deleted

-- users: Users, and the hashes of their passwords.
SELECT u.user_id, u.name, u.admin, s.hash
FROM fold.users u LEFT JOIN fold.secrets s ON s.secret_id = u.user_id WHERE NOT u.deleted

-- tokens: Tokens by their hashes.
SELECT s.hash, t.token_id::BIGINT, t.user_id, t.expires_at_ms
FROM fold.tokens t JOIN fold.secrets s ON s.secret_id = t.token_id WHERE NOT t.deleted

-- secret: The hash of a password or token.
SELECT hash FROM fold.secrets WHERE secret_id = ?

-- members: Pairs of a role's id and a member's user id.
SELECT key, entity_id FROM fold.history
WHERE entity = 'user' AND attribute = 'role' AND to_offset IS NULL

-- permissions: Permissions that were first granted at or after an offset.
SELECT holder, holder_id, resource, pattern, entity_id, permission
FROM fold.permissions WHERE NOT deleted AND permission_id::BIGINT >= ?

-- granted: Permissions with the names of their holders.
SELECT p.permission_id::BIGINT AS permission_id, v."user", v.role, v.resource, v.pattern,
    v.entity_id, v.permission, v.granted_at, v.granted_by, v.reason
FROM fold.permissions p JOIN permissions v ON v.permission_id = p.permission_id
WHERE NOT p.deleted{conditions}
ORDER BY v."user" NULLS LAST, v.role, v.resource, v.pattern, p.permission_id::BIGINT

-- role_permission: The role that holds a permission, and for what.
SELECT holder_id::BIGINT, resource, pattern, entity_id FROM fold.permissions
WHERE permission_id = ? AND holder = 'role' AND NOT deleted

-- accepted: Requests that were accepted at or after an offset.
SELECT entity, experiment_id, model FROM fold.requests WHERE accepted AND "offset" >= ?
