"""The bench: syncd measured against floors, in turn, in the same run (`scripts/bench --help`).

A *floor* is the least work that could do the same: it reads the files and inserts the rows, and
does nothing of what makes it safe. Each module below measures one thing.

    corpus      messages from a seed, as the old client writes them
    workshop    the scratch folder, the sizes, projects made once
    children    processes that are timed, bounded and stopped
    figures     samples, targets, results
    floors      the floors, as processes
    bulk        migrate, idle-sync
    latency     file-to-row, row-to-file
    drop_in     drop-in
    neighbours  neighbours, with `writer` as the process that they are
    idle        idle-agent
    start       start
    messaging   messaging
    indexers    indexers
    sizes       sizes
    table       results for people, as markdown, as JSON
    readme      the README's part that is measured

Times of floors are those of the work alone; times of commands are whole commands, from the start
of the process to its end, unless a result says otherwise.
"""
