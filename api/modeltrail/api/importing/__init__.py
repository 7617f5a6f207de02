"""Bringing in what another tracker has: sources that read it, targets that append it here.

A source (``databases``, ``folders``, ``servers``) tells entities and metric points; ``importer``
compares them with what the fold has and appends only what is missing, so that an import that was
killed, or that comes again when the source has grown, brings each thing once.
"""
