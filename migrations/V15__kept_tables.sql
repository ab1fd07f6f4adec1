-- Which result tables the engine keeps that has claimed the store; those of none are as an earlier one
-- has left them. NULL: all.
ALTER TABLE progress ADD COLUMN kept_tables text[];
