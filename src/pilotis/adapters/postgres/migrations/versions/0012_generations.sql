-- `embedder`: how its model is reached, as the contract said when it was begun. Null: as the contract says.
ALTER TABLE generation
    ADD embedder        jsonb,
    ADD passage_tokens  integer,
    ADD passage_overlap integer,
    ADD activated_at    timestamptz,
    ADD retired_at      timestamptz;
UPDATE generation SET activated_at = created_at WHERE state = 'active';

ALTER TABLE passage ADD generation integer REFERENCES generation;
UPDATE passage SET generation = (SELECT entry.generation FROM entry WHERE entry.key = passage.key);
ALTER TABLE passage ALTER generation SET NOT NULL, DROP CONSTRAINT passage_id_key, ADD CONSTRAINT passage_id_key UNIQUE (id, generation);
DROP INDEX passage_document;
CREATE INDEX passage_document ON passage (document_id, generation);

-- Which version of a document a generation that is not active holds, or why it holds none.
CREATE TABLE built (
    generation  integer NOT NULL REFERENCES generation ON DELETE CASCADE,
    document_id uuid NOT NULL REFERENCES document ON DELETE CASCADE,
    version     integer NOT NULL,
    passages    integer NOT NULL DEFAULT 0,
    error       text,
    PRIMARY KEY (generation, document_id)
);
CREATE INDEX built_document ON built (document_id);
