-- What each source brought. No reference to `document`: that its document is gone is what a row has to survive.
CREATE TABLE source_item (
    bu          text COLLATE "C" NOT NULL,
    collection  text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    source      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    sha256      text COLLATE "C",
    size        bigint NOT NULL DEFAULT 0,
    validator   text,
    document_id uuid,
    brought     boolean NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bu, collection, name)
);
CREATE INDEX source_item_source ON source_item (source);

-- The last run of each source; `holder` has it until `lease_until`.
CREATE TABLE source_run (
    source      text COLLATE "C" PRIMARY KEY,
    holder      text NOT NULL,
    lease_until timestamptz,
    began_at    timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    succeeded   boolean NOT NULL DEFAULT true,
    report      jsonb NOT NULL DEFAULT '{}'
);
