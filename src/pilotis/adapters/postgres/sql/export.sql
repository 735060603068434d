-- name: documents
SELECT id::text, bu, collection, name, title, state, error, media_type, sha256, size, pages, passages, language, metadata,
       received_at, indexed_at
FROM document
WHERE %(bu)s::text IS NULL OR bu = %(bu)s
ORDER BY bu, collection, name

-- name: passages
SELECT passage.id, passage.document_id::text, document.name AS document, document.bu, document.collection, document.title,
       passage.ordinal, passage.headings, passage.page, passage.start_char AS start, passage.end_char AS "end", passage.language,
       passage.text
FROM passage JOIN document ON document.id = passage.document_id
WHERE passage.generation = (SELECT id FROM generation WHERE state = 'active')
  AND (%(bu)s::text IS NULL OR document.bu = %(bu)s)
ORDER BY passage.document_id, passage.ordinal

-- name: passages_with_vectors
SELECT passage.id, passage.document_id::text, document.name AS document, document.bu, document.collection, document.title,
       passage.ordinal, passage.headings, passage.page, passage.start_char AS start, passage.end_char AS "end", passage.language,
       passage.text, entry.embedding::real[] AS vector
FROM passage JOIN document ON document.id = passage.document_id
JOIN entry USING (key)
WHERE passage.generation = (SELECT id FROM generation WHERE state = 'active')
  AND (%(bu)s::text IS NULL OR document.bu = %(bu)s)
ORDER BY passage.document_id, passage.ordinal
