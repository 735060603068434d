-- What was left out or had to be guessed when the document was read: pages without text, attachments, an encoding.
ALTER TABLE document ADD COLUMN warnings text[] NOT NULL DEFAULT '{}';
