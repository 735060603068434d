CREATE EXTENSION IF NOT EXISTS vector;

-- The vectors of one (embedding model, dimension, analysis); one is active.
CREATE TABLE generation (
    id          integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    model       text NOT NULL,
    dimension   integer NOT NULL CHECK (dimension BETWEEN 1 AND 4000),
    analysis    integer NOT NULL,
    state       text NOT NULL CHECK (state IN ('active', 'building', 'retired')),
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX generation_one_active ON generation (state) WHERE state = 'active';

CREATE TABLE document (
    id          uuid PRIMARY KEY,
    bu          text COLLATE "C" NOT NULL,
    collection  text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    sha256      text COLLATE "C" NOT NULL,
    size        bigint NOT NULL,
    media_type  text NOT NULL,
    metadata    jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'received' CHECK (state IN ('received', 'parsing', 'embedding', 'indexed', 'failed')),
    version     integer NOT NULL DEFAULT 1,
    error       text,
    attempts    integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz,
    title       text,
    language    text,
    pages       integer,
    passages    integer NOT NULL DEFAULT 0,
    received_at timestamptz NOT NULL DEFAULT now(),
    indexed_at  timestamptz,
    UNIQUE (bu, collection, name)
);
CREATE INDEX document_waiting ON document (next_try_at, id) WHERE state IN ('received', 'parsing');
CREATE INDEX document_listed ON document (bu, received_at DESC, id DESC);

-- One row per stored file: its lock serialises "the last reference goes" against "the same bytes come back".
CREATE TABLE blob (sha256 text COLLATE "C" PRIMARY KEY);
CREATE INDEX document_sha256 ON document (sha256);

-- Passages of new content, kept aside until the last of their vectors is there.
CREATE TABLE draft (
    document_id   uuid NOT NULL REFERENCES document ON DELETE CASCADE,
    version       integer NOT NULL,
    ordinal       integer NOT NULL,
    passage_id    text COLLATE "C" NOT NULL,
    text          text NOT NULL,
    indexed_text  text NOT NULL,
    headings      text[] NOT NULL,
    page          integer,
    start_char    integer NOT NULL,
    end_char      integer NOT NULL,
    language      text NOT NULL,
    terms         integer[] NOT NULL,
    weights       sparsevec NOT NULL,
    embedding     halfvec,
    claimed_until timestamptz,
    PRIMARY KEY (document_id, ordinal)
);
CREATE INDEX draft_pending ON draft (document_id, ordinal) WHERE embedding IS NULL;

CREATE TABLE passage (
    key          bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id           text COLLATE "C" NOT NULL UNIQUE,
    document_id  uuid NOT NULL REFERENCES document ON DELETE CASCADE,
    ordinal      integer NOT NULL,
    text         text NOT NULL,
    indexed_text text NOT NULL,
    headings     text[] NOT NULL,
    page         integer,
    start_char   integer NOT NULL,
    end_char     integer NOT NULL,
    language     text NOT NULL
);
CREATE INDEX passage_document ON passage (document_id);

-- What search reads for every candidate, in rows of one piece: passages themselves are fetched for the winners only.
CREATE TABLE entry (
    key        bigint PRIMARY KEY REFERENCES passage ON DELETE CASCADE,
    generation integer NOT NULL REFERENCES generation,
    bu         text COLLATE "C" NOT NULL,
    collection text COLLATE "C" NOT NULL,
    metadata   jsonb NOT NULL,
    embedding  halfvec NOT NULL,
    terms      integer[] NOT NULL,
    weights    sparsevec NOT NULL
) WITH (toast_tuple_target = 8160);
ALTER TABLE entry
    ALTER embedding SET STORAGE MAIN, ALTER terms SET STORAGE MAIN, ALTER weights SET STORAGE MAIN;
CREATE INDEX entry_terms ON entry USING gin (terms);
CREATE INDEX entry_scope ON entry (bu, collection);

-- In how many passages each term occurs. Term ids already tell business units and languages apart.
CREATE TABLE lexeme (
    generation integer NOT NULL REFERENCES generation,
    term       integer NOT NULL,
    passages   integer NOT NULL,
    PRIMARY KEY (generation, term)
) WITH (fillfactor = 80);

CREATE TABLE corpus (
    generation integer NOT NULL REFERENCES generation,
    bu         text COLLATE "C" NOT NULL,
    passages   bigint NOT NULL,
    PRIMARY KEY (generation, bu)
);

CREATE TABLE ledger (
    id         text COLLATE "C" PRIMARY KEY,
    at         timestamptz NOT NULL,
    env        text NOT NULL,
    plane      text NOT NULL CHECK (plane IN ('online', 'batch')),
    bu         text COLLATE "C" NOT NULL,
    kind       text NOT NULL,
    subject    text NOT NULL,
    model      text NOT NULL,
    usage      jsonb NOT NULL,
    cost_eur   numeric(24, 12) NOT NULL CHECK (cost_eur >= 0),
    price_book text NOT NULL,
    fx         jsonb,
    priced     boolean NOT NULL
);
CREATE INDEX ledger_bu_at ON ledger (bu, at);

CREATE TABLE api_key (
    id         uuid PRIMARY KEY,
    bu         text COLLATE "C" NOT NULL,
    name       text NOT NULL,
    prefix     text NOT NULL,
    digest     bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
