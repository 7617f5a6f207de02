-- readable_experiments: Ids of the experiments that a user may read.
SELECT experiment_id FROM fold.experiments WHERE {readable}

-- readable_models: Keys or names of the models that a user may read.
SELECT {column} FROM fold.models WHERE NOT deleted AND {readable}

-- experiment_named: Id of the experiment with a name.
SELECT experiment_id FROM fold.experiments WHERE name = ?

-- model_named: Key of the model with a name.
SELECT model_key FROM fold.models WHERE model = ? AND NOT deleted

-- secret: The hash of a password or token.
SELECT hash FROM fold.secrets WHERE secret_id = ?

-- granted: Permissions with the names of their holders.
SELECT p.permission_id::BIGINT AS permission_id, v."user", v.role, v.resource, v.pattern,
    v.entity_id, v.permission, v.granted_at, v.granted_by, v.reason
FROM fold.permissions p JOIN permissions v ON v.permission_id = p.permission_id
WHERE NOT p.deleted{conditions}
ORDER BY v."user" NULLS LAST, v.role, v.resource, v.pattern, p.permission_id::BIGINT

-- role_permission: The role that holds a permission, and for what.
SELECT holder_id::BIGINT, resource, pattern, entity_id FROM fold.permissions
WHERE permission_id = ? AND holder = 'role' AND NOT deleted
