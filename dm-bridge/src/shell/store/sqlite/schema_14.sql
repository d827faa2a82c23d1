-- Names of version 1.
ALTER TABLE device RENAME COLUMN rest TO pending_suspension;
ALTER TABLE device RENAME COLUMN on_request TO update_requests;
ALTER TABLE campaign RENAME COLUMN on_request TO update_requests;
ALTER TABLE campaign RENAME COLUMN ways TO delivery_methods;
ALTER TABLE campaign RENAME COLUMN bundle_octets TO bundle_bytes;
ALTER TABLE campaign RENAME COLUMN campaign_paper TO campaign_envelope;
ALTER TABLE campaign RENAME COLUMN manifest_paper TO manifest_envelope;
ALTER TABLE campaign RENAME COLUMN air_source TO prepared_source;
ALTER TABLE campaign RENAME COLUMN air_tsi TO prepared_tsi;
ALTER TABLE campaign RENAME COLUMN air_revision TO prepared_revision;
ALTER TABLE campaign RENAME COLUMN air_opened TO prepared_opened;
ALTER TABLE campaign RENAME COLUMN problem TO last_error;
ALTER TABLE arming RENAME COLUMN way TO delivery_method;
ALTER TABLE root_paper RENAME TO root_envelope;

UPDATE arming SET phase = 'version-mismatch' WHERE phase = 'contradicted';
UPDATE arming SET phase = 'needs-unicast' WHERE phase = 'unicast-needed';

UPDATE device SET components = json_object(
    'refresh_requested', components -> '$.wanted',
    'read', components -> '$.read',
    'refused', components -> '$.refused',
    'inventory', components -> '$.held',
    'operations', (
        SELECT json_group_array(json_set(json_remove(value, '$.phase'), '$.state', value -> '$.phase'))
        FROM json_each(components, '$.works')
    )
) WHERE components IS NOT NULL;

UPDATE device SET policy = (
    SELECT json_group_object(key, json_set(json_remove(value, '$.answer'), '$.status', value -> '$.answer'))
    FROM json_each(policy)
) WHERE policy IS NOT NULL;
