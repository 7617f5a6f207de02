"""The commands of `modeltrail`, each imported when it is asked for."""
