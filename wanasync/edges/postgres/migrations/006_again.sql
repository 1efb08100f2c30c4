-- Of what was turned away and is to be sent again: few rows, looked for among the many that never were.
CREATE INDEX progress_again ON wanasync.progress (batch, seq) WHERE state = 0 AND claim IS NOT NULL;
