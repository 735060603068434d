-- `staged`: title, language and pages of new content, until its passages are visible. `deaths`: workers that ended while parsing it.
ALTER TABLE document ADD staged jsonb, ADD deaths integer NOT NULL DEFAULT 0;
UPDATE document SET staged = jsonb_build_object('title', title, 'language', language, 'pages', pages) WHERE state = 'embedding';

-- Looked at every few seconds: what is complete, and what said why it waits.
CREATE INDEX document_embedding ON document (id) WHERE state = 'embedding';
