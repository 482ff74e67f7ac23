"""This package writes InfluxDB's line protocol over HTTP: to InfluxDB, VictoriaMetrics and whatever
else takes it.

`sink` is the HTTP sink with another body and another judge; `lines` renders records, `answer` reads
what comes back.
"""
