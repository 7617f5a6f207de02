"""Import from another tracker: sources read it, destinations append here.

A source (``databases``, ``folders``, ``servers``) yields entities and metric points. ``importer``
compares them with the fold and appends only what is missing, so that an import that was killed, or
that is repeated after the source has grown, imports everything once.
"""
