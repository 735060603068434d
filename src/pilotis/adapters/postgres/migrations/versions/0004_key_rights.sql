-- `budget`: euros by window, as texts, so that no digit is lost. `rotated_from`: the key this one was made in place of.
ALTER TABLE api_key
    ADD rights       text[] NOT NULL DEFAULT '{ask,ingest}'
        CHECK (cardinality(rights) > 0 AND rights <@ ARRAY['ask', 'ingest', 'admin']),
    ADD expires_at   timestamptz,
    ADD budget       jsonb,
    ADD rotated_from uuid REFERENCES api_key,
    ADD CHECK (bu <> '*' OR rights = ARRAY['admin']);

CREATE UNIQUE INDEX api_key_rotated ON api_key (rotated_from);
